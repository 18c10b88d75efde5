"""The families that are supported: one file each, one row here."""

from ldm_export.families.family import Family
from ldm_export.families.sdxl import SDXL
from ldm_export.families.stable_diffusion import STABLE_DIFFUSION

FAMILIES: dict[str, Family] = {family.name: family for family in (STABLE_DIFFUSION, SDXL)}
