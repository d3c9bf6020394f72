"""EfficientNet-Lite0, an image network of depthwise convolutions, as a model of transformers.

The published configuration (Google's efficientnet/lite, after Tan and Le 2019, "EfficientNet"): no squeeze-and-excitation, ReLU6,
stem and head not scaled, TensorFlow's "same" padding. Batch norms are no layers of their own here: `folded` puts the published
ones into the convolutions, and a training goes on from there.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu6
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, initialization
from transformers.modeling_outputs import BaseModelOutputWithPooling

# Repeats, kernel, stride, expansion, channels of each stage.
STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
# The map after this many stages is the grid of evidence.
_EVIDENCE = 5
_EPSILON = 1e-3
# Published convolution and batch norm of a block -> ours.
_CONVOLUTIONS = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}


class Lite0Config(PreTrainedConfig):
    """Sizes of the network; the defaults are the published ones.

    `stages` holds repeats, kernel, stride, expansion and channels of seven stages, `hidden_size` the channels of the last maps.
    """

    model_type = "efficientnet_lite0"

    stem_size: int = 32
    stages: tuple[tuple[int, ...], ...] | list[list[int]] = STAGES
    hidden_size: int = 1280
    image_size: int = 320


class Lite0Model(PreTrainedModel):
    """The network without its classifier.

    `evidence_channels` and `evidence_stride` are those of the maps after the fifth stage, on which evidence is laid.
    """

    config_class = Lite0Config
    base_model_prefix = "lite0"
    main_input_name = "pixel_values"

    def __init__(self, config: Lite0Config) -> None:
        super().__init__(config)
        self.stem = _Convolution(3, config.stem_size, kernel=3, stride=2)
        self.blocks = nn.ModuleList()
        channels = config.stem_size
        for repeats, kernel, stride, expansion, wanted in config.stages:
            for repeat in range(repeats):
                self.blocks.append(_Block(channels, wanted, kernel, 1 if repeat else stride, expansion))
                channels = wanted
        self.head = _Convolution(channels, config.hidden_size)
        self.evidence_channels = config.stages[_EVIDENCE - 1][-1]
        self.evidence_stride = 2 * math.prod(stage[2] for stage in config.stages[:_EVIDENCE])
        self._evidence = sum(stage[0] for stage in config.stages[:_EVIDENCE])
        self.post_init()

    def forward(self, pixel_values: Tensor, **unused: object) -> BaseModelOutputWithPooling:
        """Pixels [B, 3, height, width] -> `last_hidden_state` [B, cells, hidden_size], cells by row, and their mean.

        `unused` are options that transformers passes to every model, such as `output_attentions`.
        """
        cells = self.last_maps(self.evidence_maps(pixel_values)).flatten(2).transpose(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=cells, pooler_output=cells.mean(1))

    def evidence_maps(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, height, width] -> maps [B, evidence_channels, rows, columns], a position for 16 x 16 pixels."""
        maps = self.stem(pixels.to(self.dtype, memory_format=torch.channels_last))
        for block in self.blocks[: self._evidence]:
            maps = block(maps)
        return maps

    def last_maps(self, maps: Tensor) -> Tensor:
        """What `evidence_maps` gave -> the last maps [B, hidden_size, rows, columns], a position for 32 x 32 pixels."""
        for block in self.blocks[self._evidence :]:
            maps = block(maps)
        return self.head(maps)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Without batch norms only this scale lets a signal through sixteen blocks (He et al. 2015).
        if isinstance(module, nn.Conv2d):
            initialization.kaiming_normal_(module.weight)
            initialization.zeros_(module.bias)


class _Convolution(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, and ReLU6 behind it unless `linear`."""

    def __init__(
        self, channels: int, wanted: int, kernel: int = 1, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__(channels, wanted, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups)
        self.linear = linear

    def forward(self, maps: Tensor) -> Tensor:
        if self.stride[0] > 1:
            rows, columns = (self._missing(size) for size in maps.shape[-2:])
            # What is odd goes to the right and below.
            maps = pad(maps, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        maps = super().forward(maps)
        return maps if self.linear else relu6(maps, inplace=True)

    def _missing(self, size: int) -> int:
        return max((-(-size // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - size, 0)


class _Block(nn.Module):
    """Expand by a 1 x 1, filter each channel, project back (Sandler et al. 2018, "MobileNetV2")."""

    def __init__(self, channels: int, wanted: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = _Convolution(channels, inner) if expansion > 1 else nn.Identity()
        self.depthwise = _Convolution(inner, inner, kernel, stride, groups=inner)
        self.project = _Convolution(inner, wanted, linear=True)
        self.adds = stride == 1 and channels == wanted

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.project(self.depthwise(self.expand(maps)))
        return inner + maps if self.adds else inner


def folded(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a `Lite0Model` from the published tensors, each batch norm put into the convolution before it.

    Names: `_conv_stem` and `_bn0` -> `stem`; `_blocks.N._expand_conv` and `_bn0` -> `blocks.N.expand`, `_depthwise_conv` and
    `_bn1` -> `depthwise`, `_project_conv` and `_bn2` -> `project`; `_conv_head` and `_bn1` -> `head`. The classifier `_fc` is
    left out.
    """
    state: dict[str, Tensor] = {}

    def put(name: str, convolution: str, norm: str) -> None:
        weight, bias, mean, variance = (
            published[f"{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / (variance + _EPSILON).sqrt()
        state[f"{name}.weight"] = (published[f"{convolution}.weight"].double() * scale[:, None, None, None]).float().contiguous()
        state[f"{name}.bias"] = (bias - mean * scale).float()

    put("stem", "_conv_stem", "_bn0")
    for number in range(sum(stage[0] for stage in STAGES)):
        for ours, (convolution, norm) in _CONVOLUTIONS.items():
            if f"_blocks.{number}.{convolution}.weight" in published:
                put(f"blocks.{number}.{ours}", f"_blocks.{number}.{convolution}", f"_blocks.{number}.{norm}")
    put("head", "_conv_head", "_bn1")
    return state


# A saved network is found by its config.json from here on.
AutoConfig.register(Lite0Config.model_type, Lite0Config, exist_ok=True)
AutoModel.register(Lite0Config, Lite0Model, exist_ok=True)
