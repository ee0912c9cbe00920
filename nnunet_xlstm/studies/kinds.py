"""The kinds of studies by name."""

from nnunet_xlstm.studies import cross_validation, few_label, pool, transfer

KINDS = {module.KIND.name: module.KIND for module in (few_label, cross_validation, transfer, pool)}
