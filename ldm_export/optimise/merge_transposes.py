"""Makes one Transpose of two in a row."""

import onnx_ir as ir

from ldm_export.optimise.matching import producer


def merge_transposes(model: ir.Model) -> tuple[ir.Model, int]:
    """Transpose(Transpose(x, p), q) = Transpose(x, p[q]); `remove_no_ops` takes what is no change."""
    count = 0
    for node in model.graph:
        inner = producer(node.inputs[0] if node.inputs else None, "Transpose")
        if node.op_type != "Transpose" or node.domain != "" or inner is None:
            continue
        first, second = inner.attributes.get_ints("perm"), node.attributes.get_ints("perm")
        if first is None or second is None:
            continue
        node.replace_input_with(0, inner.inputs[0])
        node.attributes["perm"] = ir.AttrInt64s("perm", [first[axis] for axis in second])
        count += 1
    return model, count
