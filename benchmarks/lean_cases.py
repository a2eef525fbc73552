"""What the lean benchmark runs, in which modes, and what was set out to be reached."""

# Input, batch and classes: activations dominate, and a step takes seconds at most on two cores.
CASES = {
    "lenet5": ((28, 28, 1), 2048, 10),
    "simpleconvnet": ((28, 28, 1), 1024, 10),
    "vgg_bn": ((64, 64, 3), 64, 10),
    "resnet20": ((32, 32, 3), 256, 10),
    "resnet50": ((96, 96, 3), 32, 10),
    "densenet121": ((96, 96, 3), 32, 10),
    "mobilenetv2": ((96, 96, 3), 64, 10),
    "efficientnetb0": ((96, 96, 3), 64, 10),
    "vgg16": ((64, 64, 3), 64, 10),
    "segnet_basic": ((96, 96, 3), 8, 11),
}
# What `lean` is called with (None: stock), and whether XLA compiles the step.
OURS = {
    "stock-graph": {"lean": None, "jit": False},
    "lean-graph": {"lean": {}, "jit": False},
    "lean-bfloat16": {"lean": {"save": "bfloat16"}, "jit": False},
    "lean-int8": {"lean": {"save": "int8"}, "jit": False},
    "lean-budget-0.5": {"lean": {"budget": 0.5}, "jit": False},
    "lean-budget-0.3": {"lean": {"budget": 0.3}, "jit": False},
    "stock-xla": {"lean": None, "jit": True},
    "lean-xla": {"lean": {}, "jit": True},
}
TORCH = {"torch-eager": {"compiled": False}, "torch-compiled": {"compiled": True}}
MODES = {**OURS, **TORCH}


def stock_of(mode):
    """The mode that a mode is held against."""
    return "stock-xla" if mode.endswith("-xla") else "stock-graph"


# (mode, figure, mode that it is a ratio to): the largest ratio per network.
BARS = {
    ("lean-graph", "resident", "stock-graph"): {
        "vgg_bn": 0.55, "densenet121": 0.45, "mobilenetv2": 0.55, "efficientnetb0": 0.55,
        "resnet50": 0.80, "resnet20": 0.75, "lenet5": 0.75, "vgg16": 0.75},
    ("lean-graph", "time", "stock-graph"): {
        "vgg_bn": 0.80, **dict.fromkeys(("densenet121", "mobilenetv2", "efficientnetb0",
                                         "resnet50", "resnet20", "lenet5", "vgg16"), 1.00)},
    ("lean-bfloat16", "resident", "stock-graph"): {
        "vgg_bn": 0.45, "densenet121": 0.40, "mobilenetv2": 0.45, "efficientnetb0": 0.45,
        "resnet50": 0.60},
    ("lean-int8", "kept", "stock-graph"): {
        "vgg_bn": 0.20, "densenet121": 0.15, "mobilenetv2": 0.20, "efficientnetb0": 0.20,
        "resnet50": 0.25, "resnet20": 0.30, "lenet5": 0.30, "vgg16": 0.30},
    ("lean-budget-0.5", "resident", "stock-graph"): {"resnet50": 0.55},
    ("lean-budget-0.5", "time", "stock-graph"): {"resnet50": 1.10},
    ("lean-graph", "time", "torch-compiled"): dict.fromkeys(CASES, 0.85),
    ("lean-graph", "resident", "torch-compiled"): dict.fromkeys(CASES, 0.75),
}
