"""The driver for real guests: QEMU (KVM where it works, else emulation) through libvirt.

| module | idea |
|---|---|
| `driver` | the port: which order is carried out by which function, events, reconnecting |
| `machine`, `daemon`, `reaper`, `connection` | what the machine can do; libvirtd of one host; calls, errors, events |
| `files`, `record`, `images`, `disks`, `config_drive`, `tagged`, `networks` | what a guest has on its host |
| `domain_xml`, `guest` | the guest as libvirt sees it |
| `build`, `power`, `rescue`, `resize`, `snapshot`, `volumes`, `interfaces`, `inside` | the orders |
| `test_driver` | libvirt's own in-process test hypervisor |
"""
