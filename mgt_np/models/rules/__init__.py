"""The residual rules, by name. A new rule is a file and a line here."""

from types import MappingProxyType

from .admin import ADMIN
from .branchnorm import BRANCHNORM
from .ddl import DDL
from .ddl_expanded import DDL_EXPANDED
from .deepnorm import DEEPNORM
from .hc import HC
from .layerscale import LAYERSCALE
from .mgt import MGT, MGT_DDL_ONLY, MGT_MHC_ONLY
from .mhc import MHC
from .none import NONE
from .post_ln import POST_LN
from .pre_ln import PRE_LN
from .rezero import REZERO
from .rule import ResidualRule
from .scaled_residual import SCALED_RESIDUAL
from .sub_ln import SUB_LN

RESIDUAL_RULES = MappingProxyType(
    {
        "none": NONE,
        "post_ln": POST_LN,
        "pre_ln": PRE_LN,
        "mgt": MGT,
        "mgt_mhc_only": MGT_MHC_ONLY,
        "mgt_ddl_only": MGT_DDL_ONLY,
        "deepnorm": DEEPNORM,
        "branchnorm": BRANCHNORM,
        "admin": ADMIN,
        "sub_ln": SUB_LN,
        "scaled_residual": SCALED_RESIDUAL,
        "layerscale": LAYERSCALE,
        "rezero": REZERO,
        "ddl": DDL,
        "ddl_expanded": DDL_EXPANDED,
        "hc": HC,
        "mhc": MHC,
    }
)

__all__ = ["RESIDUAL_RULES", "ResidualRule"]
