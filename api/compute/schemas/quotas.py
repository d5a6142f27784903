"""Bodies and queries of quotas."""

from __future__ import annotations

from api.compute.schemas.types import BOOLEAN, STRINGS, Schema, closed, query, without, words, wrapped
from api.compute.validation import Schemas

_LIMIT: Schema = {"type": ["integer", "string"], "pattern": "^-?[0-9]+$", "minimum": -1, "maximum": 0x7FFFFFFF}
_NETWORK = words("floating_ips fixed_ips security_groups security_group_rules")
_FILES = words("injected_files injected_file_content_bytes injected_file_path_bytes")
_ALL: Schema = dict.fromkeys(
    [*words("instances cores ram metadata_items key_pairs server_groups server_group_members"), *_NETWORK, *_FILES],
    _LIMIT,
)
_36 = without(_ALL, *_NETWORK)
_57 = without(_36, *_FILES)
_FORCE: Schema = {"force": BOOLEAN}

UPDATE = Schemas(
    (1, wrapped("quota_set", closed(_ALL | _FORCE))),
    (36, wrapped("quota_set", closed(_36 | _FORCE))),
    (57, wrapped("quota_set", closed(_57 | _FORCE))),
)
UPDATE_CLASS = Schemas(
    (1, wrapped("quota_class_set", closed(_ALL))),
    (50, wrapped("quota_class_set", closed(_36))),
    (57, wrapped("quota_class_set", closed(_57))),
)
QUERY = Schemas((1, query({"user_id": STRINGS})), (75, query({"user_id": STRINGS}, strict=True)), query=True)
