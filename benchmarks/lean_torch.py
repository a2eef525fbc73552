"""The same networks and the same step in PyTorch: a child of `python -m benchmarks.lean`.

Runs in a Python that has torch and torchvision; imports nothing of ours that needs TensorFlow.
Images and weights are in the channels-last memory format, the fastest there is on a CPU.
"""

import os

import torch
import torchvision
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from benchmarks.lean_worker import serve


def lenet5(channels, classes):
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes))


def simple_conv_net(channels, classes):
    return nn.Sequential(
        nn.Conv2d(channels, 30, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(30 * 12 * 12, 100), nn.ReLU(), nn.Linear(100, classes))


def conv(entering, leaving, kernel=3, stride=1):
    return nn.Conv2d(entering, leaving, kernel, stride, kernel // 2, bias=False)


def on_mean(features, classes):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes)]


def vgg_bn(channels, classes, widths=(32, 64, 128), depth=4):
    layers, entering = [conv(channels, widths[0])], widths[0]
    for stage, width in enumerate(widths):
        layers += [nn.MaxPool2d(2)] if stage else []
        for _ in range(depth):
            layers += [nn.BatchNorm2d(entering), nn.ReLU(), conv(entering, width)]
            entering = width
    return nn.Sequential(*layers, *on_mean(entering, classes))


class Block(nn.Module):
    """The basic block of ResNet-20."""

    def __init__(self, entering, leaving):
        super().__init__()
        stride = 1 if entering == leaving else 2
        self.body = nn.Sequential(
            conv(entering, leaving, 3, stride), nn.BatchNorm2d(leaving), nn.ReLU(),
            conv(leaving, leaving), nn.BatchNorm2d(leaving))
        self.shortcut = nn.Identity() if stride == 1 else nn.Sequential(
            conv(entering, leaving, 1, stride), nn.BatchNorm2d(leaving))

    def forward(self, x):
        return torch.relu(self.shortcut(x) + self.body(x))


def resnet20(channels, classes):
    widths = [16] * 4 + [32] * 3 + [64] * 3
    blocks = [Block(*pair) for pair in zip(widths, widths[1:])]
    return nn.Sequential(conv(channels, 16), nn.BatchNorm2d(16), nn.ReLU(), *blocks,
                         *on_mean(64, classes))


def segnet_basic(channels, classes, filters=64, kernel=7):
    layers, entering = [], channels
    for _ in range(4):
        layers += [conv(entering, filters, kernel), nn.BatchNorm2d(filters), nn.ReLU(),
                   nn.MaxPool2d(2)]
        entering = filters
    for _ in range(4):
        layers += [nn.Upsample(scale_factor=2), conv(filters, filters, kernel),
                   nn.BatchNorm2d(filters)]
    return nn.Sequential(*layers, nn.Conv2d(filters, classes, 1))


def vgg16(channels, classes):
    return nn.Sequential(make_layers(cfgs["D"]), *on_mean(512, classes))


def vision(name):
    return lambda channels, classes: torchvision.models.get_model(name, num_classes=classes)


NETWORKS = {
    "lenet5": lenet5,
    "simpleconvnet": simple_conv_net,
    "vgg_bn": vgg_bn,
    "resnet20": resnet20,
    "resnet50": vision("resnet50"),
    "densenet121": vision("densenet121"),
    "mobilenetv2": vision("mobilenet_v2"),
    "efficientnetb0": vision("efficientnet_b0"),
    "vgg16": vgg16,
    "segnet_basic": segnet_basic,
}


def prepare(spec):
    """What `serve` needs: the step, run twice, so that it is compiled and its caches are filled.

    PyTorch gives memory back after a step, so it grows anew in every one.
    """
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count())
    height, width, channels = spec["shape"]
    model = NETWORKS[spec["network"]](channels, spec["classes"])
    model = model.to(memory_format=torch.channels_last).train()
    network = torch.compile(model) if spec["compiled"] else model
    images = torch.rand(spec["batch"], channels, height, width)
    images = images.to(memory_format=torch.channels_last)
    with torch.no_grad():
        outputs = model(images[:2]).shape[2:]
    labels = torch.randint(spec["classes"], (spec["batch"], *outputs))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)

    def step():
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()  # gradients are freed, so that they are part of the next one's growth
        return loss.item()

    step(), step()
    facts = {"parameters": sum(p.numel() for p in model.parameters()),
             "version": f"torch {torch.__version__}"}
    return step, facts, lambda: None, dict


if __name__ == "__main__":
    serve(prepare)
