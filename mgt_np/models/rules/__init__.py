"""The residual rules, by name. A new rule is a file and a line here."""

from types import MappingProxyType

from .hc import HC
from .mgt import MGT, MGT_DDL_ONLY, MGT_MHC_ONLY
from .mhc import MHC
from .none import NONE
from .post_ln import POST_LN
from .pre_ln import PRE_LN
from .rule import ResidualRule

RESIDUAL_RULES = MappingProxyType(
    {
        "none": NONE,
        "post_ln": POST_LN,
        "pre_ln": PRE_LN,
        "mgt": MGT,
        "mgt_mhc_only": MGT_MHC_ONLY,
        "mgt_ddl_only": MGT_DDL_ONLY,
        "hc": HC,
        "mhc": MHC,
    }
)

__all__ = ["RESIDUAL_RULES", "ResidualRule"]
