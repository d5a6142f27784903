"""What tests/e2e/test_client_verbs.py types into the `openstack` client, in order, and the document about it.

`{id:NAME}` stands for a server's id (an administrator finds other projects' servers by id only, as with Nova),
`{request}` for that of the newest action of `first`, `{files}` for a folder with a key and a disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.client_shell import Answer

DOCUMENT = Path(__file__).parents[1] / "docs" / "client-verbs.md"
MEMBER, ADMINISTRATOR = "chronova", "chronova-admin"
NOT_TYPED = {"server ssh"}  # it is the machine's own ssh, and no simulated server answers that
NOT_HERE = "The command {} is not carried out by this deployment"


@dataclass(frozen=True)
class Typed:
    """`refused`: it has to fail with this in its words. `actions`: what it adds to the history of `first`."""

    line: str
    cloud: str = MEMBER
    refused: str = ""
    actions: tuple[str, ...] = ()
    note: str = ""


def _member(*lines: str) -> tuple[Typed, ...]:
    return tuple(Typed(line) for line in lines)


def _admin(*lines: str) -> tuple[Typed, ...]:
    return tuple(Typed(line, ADMINISTRATOR) for line in lines)


def _act(line: str, *actions: str, cloud: str = MEMBER) -> Typed:
    return Typed(line, cloud, actions=actions)


# What is around images and volumes: shared, protected, extended, reverted, copied; and what is not offered.
_STORAGE = (
    *_member(
        "image set --shared --protected --tag blue --min-disk 1 other",
        "image unset --tag blue other",
        "image member list other",
    ),
    Typed("image delete other", refused="is protected and cannot be deleted"),
    *_member("image set --unprotected --min-disk 0 other"),
    *_admin(
        "image add project other admin",
        "image set --accept other",
        "image remove project other admin",
        "image set --deactivate other",
        "image set --activate other",
    ),
    *_member(
        "image set --property hw_disk_bus=scsi other",
    ),
    Typed("server create --image other --flavor m1.nano --nic none never", refused="hw_disk_bus=scsi is not offered"),
    *_member(
        "image unset --property hw_disk_bus other",
        "volume type show default",
        "volume set --size 2 --bootable --image-property a=b again",
        "volume unset --image-property a again",
        "volume set --non-bootable --read-only again",
        "volume set --read-write --no-property again",
        "volume snapshot set --description mine --property a=b snap",
        "volume snapshot unset --property a snap",
        "volume create --source again --size 2 third",
        "volume summary",
        "volume delete third",
    ),
    *_admin("volume service list", "volume list --all-projects"),
    *_member("volume snapshot create --volume again spare", "volume revert spare", "volume snapshot delete spare"),
    Typed("volume create --size 1 --type shared never", refused="Volume type with name shared could not be found"),
    Typed("volume backup create --name never data", refused="Make a snapshot, or an image of the volume"),
    Typed("volume transfer request create data", refused="not offered here"),
)

_BEFORE = (
    *_member(
        "keypair create made",
        "keypair create --public-key {files}/key.pub mine",
        "keypair list",
        "keypair show mine",
        "keypair show --public-key mine",
        "keypair delete made",
    ),
    *_admin(
        "flavor create --ram 128 --disk 1 --vcpus 2 --property hw:cpu_policy=shared verbs.two",
        "flavor create --ram 64 --disk 0 --vcpus 1 --id verbs-small verbs.small",
        "flavor set --property a=b --description larger verbs.two",
        "flavor unset --property a verbs.two",
    ),
    *_member(
        "flavor list",
        "flavor list --long",
        "flavor show verbs.two",
        "image create --file {files}/disk.raw --disk-format raw --container-format bare disk",
        "image list",
        "image show disk",
        "image set --property os_distro=tiny --name other disk",
        "image unset --property os_distro other",
        "image save --file {files}/saved other",
        "network create lan",
        "network list",
        "network show lan",
        "network set --description local lan",
        "subnet create --network lan --subnet-range 10.77.0.0/24 lan4",
        "subnet list",
        "subnet show lan4",
        "subnet set --name lan-4 lan4",
        "port create --network lan --fixed-ip subnet=lan-4,ip-address=10.77.0.9 nic",
        "port list",
        "port show nic",
        "port set --description mine nic",
        "security group create web",
        "security group list",
        "security group show web",
        "security group set --description pages web",
        "security group rule create --protocol tcp --dst-port 80 web",
        "security group rule list web",
        "volume create --size 1 data",
        "volume list",
        "volume show data",
        "volume set --description mine --property a=b data",
        "volume unset --property a data",
        "volume snapshot create --volume data snap",
        "volume snapshot list",
        "volume snapshot show snap",
        "volume create --snapshot snap --size 1 again",
        "volume create --image tiny --size 1 root",
        "volume type list",
    ),
    *_STORAGE,
    *_member(
        "server group create --policy anti-affinity apart",
        "server group list",
        "server group show apart",
    ),
)

_SERVER = (
    _act(
        "server create --image tiny --flavor m1.nano --network private --key-name mine --property role=db"
        " --server-group apart --tag blue --description first --hostname one --config-drive True"
        " --security-group web --wait first",
        "create",
    ),
    *_member(
        "server create --image tiny --flavor m1.nano --nic none --wait second",
        "server create --image tiny --flavor m1.nano --port nic --wait third",
        "server create --volume root --flavor m1.nano --nic none --wait fourth",
        "server create --image tiny --flavor m1.nano --nic none --min 2 --max 2 --wait pair",
        "server list",
        "server list --long",
        "server list --name first --status ACTIVE --sort-column name",
        "server list --tags blue",
        "server show first",
        "server set --name uno --description one --property a=b --tag red --hostname uno first",
        "server set --name 'web[1' uno",
        "server show 'web[1'",
        "server set --name 'web(1)' 'web[1'",
        "server set --name first 'web(1)'",
        "server unset --property a --tag red --description first",
    ),
    *_admin(
        "server list --all-projects",
        "server list --all-projects --host host-1",
        "server show --diagnostics {id:first}",
    ),
    Typed("server show --diagnostics first", refused="Policy doesn't allow"),
    Typed(
        "server show --topology first",
        refused="could not be found",
        note="without a version this client asks at 2.1, where Nova has no such thing either",
    ),
    *_member("--os-compute-api-version 2.78 server show --topology first"),
    _act("server stop first", "stop"),
    _act("server start first", "start"),
    _act("server reboot --wait first", "reboot"),
    _act("server reboot --hard --wait first", "reboot"),
    _act("server pause first", "pause"),
    _act("server unpause first", "unpause"),
    _act("server suspend first", "suspend"),
    _act("server resume first", "resume"),
    _act("server lock --reason 'hands off' first", "lock"),
    Typed("server stop first", refused="is locked"),
    *_member("server list --locked"),
    _act("server unlock first", "unlock"),
    _act("server rescue --image tiny --password Sesame-1 first", "rescue"),
    _act("server unrescue first", "unrescue"),
    _act("server rebuild --image tiny --wait first", "rebuild"),
    _act(
        "server rebuild --image tiny --name renamed --property x=y --description new --hostname renamed"
        " --user-data {files}/key.pub --key-unset --wait first",
        "rebuild",
    ),
    *_member("server set --name first renamed"),
    _act("server image create --name snapped --wait first", "createImage"),
    *_member("image show snapped"),
    _act("server backup create --name backed --type daily --rotate 1 --wait first", "createBackup"),
    Typed("server resize --flavor m1.nano first", refused="must change flavor"),
    Typed("server resize --flavor verbs.small first", refused="too small"),
    _act("server resize --flavor verbs.two --wait first", "resize"),
    _act("server resize revert first", "revertResize"),
    _act("server resize --flavor verbs.two --wait first", "resize"),
    _act("server resize confirm first", "confirmResize"),
    _act("server resize --flavor m1.nano --wait first", "resize"),
    _act("server migration revert first", "revertResize"),
    _act("server resize --flavor m1.nano --wait first", "resize"),
    _act("server migration confirm first", "confirmResize"),
    _act("server resize --flavor verbs.two --wait first", "resize"),
    _act("server migrate revert first", "revertResize"),
    _act("server resize --flavor verbs.two --wait first", "resize"),
    _act("server migrate confirm first", "confirmResize"),
    *_admin("server migration list"),
    Typed("server migrate --wait first", refused="Policy doesn't allow"),
    Typed("server migrate {id:first}", ADMINISTRATOR, refused=NOT_HERE.format("migrate")),
    Typed("server migrate --live-migration {id:first}", ADMINISTRATOR, refused=NOT_HERE.format("live-migrate")),
    Typed("server evacuate {id:first}", ADMINISTRATOR, refused="is still in use"),
    Typed(
        "server migration show {id:first} 1",
        ADMINISTRATOR,
        refused="could not be found",
        note="this client takes the two ids for each other: it asks for /servers/1/migrations/<id>",
    ),
    *(
        Typed(f"server migration {verb} {{id:first}} 1", ADMINISTRATOR, refused="is not found")
        for verb in ("abort", "force complete")
    ),
    Typed("server restore first", refused="Cannot 'restore'"),
    _act("server shelve --wait first", "shelve"),
    _act("server unshelve --wait first", "unshelve"),
    _act("server shelve --offload --wait first", "shelve"),
    _act("server unshelve --wait first", "unshelve"),
    _act("server add volume first data", "attach_volume"),
    Typed("volume delete data", refused="has 1 snapshots"),
    _act("volume snapshot create --volume data --force live", "snapshot_volume"),
    _act("volume set --size 2 data", "extend_volume"),
    *_member(
        "volume snapshot show live",
        "volume snapshot delete live",
        "server volume list first",
        "server volume set --delete-on-termination first data",
        "server volume set --preserve-on-termination first data",
        "server volume update --preserve-on-termination first data",
    ),
    _act("server remove volume first data", "detach_volume"),
    _act("server add network first lan", "attach_interface"),
    _act("server remove network first lan", "detach_interface"),
    *_member("port create --network lan nic2"),
    _act("server add port first nic2", "attach_interface"),
    _act("server remove port first nic2", "detach_interface"),
    _act("server add fixed ip --fixed-ip-address 10.77.0.50 first lan", "attach_interface"),
    Typed(
        "--os-compute-api-version 2.43 server remove fixed ip first 10.77.0.50",
        note="2.43 is the last version with this action",
    ),
    _act("server remove network first lan", "detach_interface"),
    Typed(
        "server add floating ip first 10.77.0.51",
        refused="No FloatingIP found",
        note="there are none: the host reaches each guest on its own address",
    ),
    Typed("server remove floating ip first 10.77.0.51", refused="No FloatingIP found"),
    *(
        Typed(f"server {verb}", refused="2.97 or greater is required")
        for verb in ("add share first docs", "share list first", "share show first docs", "remove share first docs")
    ),
    *_member(
        "server add security group first default",
        "server remove security group first default",
        "console log show first",
        "console log show --lines 5 first",
        "console url show first",
        "console url show --serial first",
    ),
    _act("server dump create first", "trigger_crash_dump"),
    *_admin("server set --auto-approve --state error {id:second}"),
    *_member("server show second"),
    *_admin("server set --auto-approve --state active {id:second}"),
    *_member(
        "server event list -f json first",
        "server event list --long first",
        "server event list {id:first}",
        "server event show first {request}",
        "server event show {id:first} {request}",
    ),
)

_AROUND = (
    *_admin(
        "aggregate create --property ssd=true fast",
        "aggregate add host fast host-1",
        "aggregate set --property ssd=false fast",
        "aggregate unset --property ssd fast",
        "aggregate list --long",
        "aggregate show fast",
        "aggregate remove host fast host-1",
        "aggregate delete fast",
    ),
    *_member("availability zone list"),
    *_admin(
        "availability zone list --long",
        "hypervisor list",
        "hypervisor list --long",
        "hypervisor show host-1",
        "compute service list",
        "compute service set --disable --disable-reason broken host-2 nova-compute",
        "compute service set --enable host-2 nova-compute",
    ),
    *_member("limits show --absolute", "limits show --rate", "quota show", "usage show"),
    *_admin(
        "quota list --compute",
        "quota set --instances 30 demo",
        "quota show demo",
        "quota delete demo",
        "usage list",
    ),
)

_AFTER = (
    *_member(
        "server delete --wait second",
        "server delete --wait first third fourth pair-1 pair-2",
        "server list",
        "server group delete apart",
        "keypair delete mine",
        "image delete snapped backed other",
        "volume snapshot delete snap",
        "volume delete again root data",
        "port delete nic nic2",
        "subnet delete lan-4",
        "network delete lan",
        "security group delete web",
    ),
    *_admin("flavor delete verbs.two verbs.small"),
    Typed("server show first", refused="No Server found for first"),
)

SCRIPT = (*_BEFORE, *_SERVER, *_AROUND, *_AFTER)

# With `reclaim_seconds` set: what is deleted can be had back.
PATIENT_SCRIPT = (
    *_member("server create --image tiny --flavor m1.nano --nic none --wait first"),
    *_member("server delete first", "server show {id:first}", "server restore {id:first}", "server show first"),
    *_member("server delete --force --wait first", "server list"),
)

HEAD = """# Verbs of the openstack client

Typed into the real client, in this order, against a running chronova with the simulated driver, by
`tests/e2e/test_client_verbs.py`, which writes this page (`--write-operations`). Lines with `#` were typed by an
administrator; `<id>` is a server's id. What ended well says `ok`; else there is what the client said.

Every verb of `openstack server` that this client has is here, but `ssh`: that is the machine's own `ssh`, and a
simulated server does not answer it.

"""

_TABLE = """| typed: `openstack ...` | answered |
|---|---|
"""

_PATIENT = """
## With `reclaim_seconds`, so that a deleted server can be had back

"""

Answers = list[tuple[Typed, Answer]]


def document(answers: Answers, patient: Answers) -> str:
    return HEAD + _TABLE + _rows(answers) + _PATIENT + _TABLE + _rows(patient)


def _rows(answers: Answers) -> str:
    rows = []
    for typed, answer in answers:
        line = re.sub(r"\{id:\S+?\}", "<id>", typed.line).replace("{files}/", "").replace("{request}", "<request>")
        mark = "# " if typed.cloud == ADMINISTRATOR else ""
        words = "ok" if answer.code == 0 else _words(answer)
        rows.append(f"| `{mark}{line}` | {words}{f' ({typed.note})' if typed.note else ''} |")
    return "\n".join(rows) + "\n"


def _words(answer: Answer) -> str:
    """What the client complained of, without the address it was talking to and what differs from run to run."""
    last = answer.complained.strip().splitlines()[-1]
    last = re.sub(r" (Client|Server) Error for url: \S+,", "", last)
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>", last).replace("|", "/")
