import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, VisionEncoderDecoderModel, VisionTextDualEncoderModel

from engine.vision.encoders import _published
from engine.vision.lite0 import STAGES, Lite0Config, Lite0Model, folded

# ImageNet's classes: 442 bell cote, 663 monastery, 698 palace; 309 bee, 985 daisy.
CLASSES = {"china.jpg": (698, {442, 663, 698}), "flower.jpg": (985, {309, 985})}
SMALL = {"stem_size": 8, "stages": [[1, 3, stage[2], 2, 8] for stage in STAGES], "hidden_size": 16}


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return torch.load(_published(), weights_only=True)


@pytest.fixture(scope="module")
def model(published) -> Lite0Model:
    model = Lite0Model(Lite0Config())
    model.load_state_dict(folded(published))
    return model.eval()


@pytest.mark.parametrize("name", CLASSES)
def test_the_published_classifier_names_what_natural_images_show(model, published, name):
    images = load_sample_images()
    image = next(image for image, path in zip(images.images, images.filenames, strict=True) if path.endswith(name))
    side = min(image.shape[:2])
    top, left = ((size - side) // 2 for size in image.shape[:2])
    square = torch.tensor(image[top : top + side, left : left + side]).permute(2, 0, 1)[None].float()
    pixels = (functional.interpolate(square, size=(320, 320), mode="bilinear", antialias=True) - 127) / 128
    with torch.inference_mode():
        logits = functional.linear(model(pixels).pooler_output, published["_fc.weight"], published["_fc.bias"])
    first, among = CLASSES[name]
    best = logits[0].topk(5).indices.tolist()
    assert best[0] == first
    assert among <= set(best)


def _padded(pixels: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
    """TensorFlow's "same" padding: as many outputs as strides begin inside the image."""
    needed = [max((-(-size // stride) - 1) * stride + weight.shape[-1] - size, 0) for size in pixels.shape[-2:]]
    before = [each // 2 for each in needed]
    after = [each - each // 2 for each in needed]
    pixels = functional.pad(pixels, (before[1], after[1], before[0], after[0]))
    return functional.conv2d(pixels, weight, stride=stride, groups=groups)


def _plain(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """The network as it was published, batch norms and all."""

    def norm(name: str, maps: Tensor) -> Tensor:
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(maps, *parts, eps=1e-3)

    maps = functional.relu6(norm("_bn0", _padded(pixels, state["_conv_stem.weight"], 2)))
    number = 0
    for repeats, _, stride, expansion, _ in STAGES:
        for repeat in range(repeats):
            block, before = f"_blocks.{number}.", maps
            if expansion > 1:
                maps = functional.relu6(norm(f"{block}_bn0", _padded(maps, state[f"{block}_expand_conv.weight"], 1)))
            weight = state[f"{block}_depthwise_conv.weight"]
            maps = _padded(maps, weight, 1 if repeat else stride, groups=maps.shape[1])
            maps = functional.relu6(norm(f"{block}_bn1", maps))
            maps = norm(f"{block}_bn2", _padded(maps, state[f"{block}_project_conv.weight"], 1))
            maps = maps + before if repeat else maps
            number += 1
    return functional.relu6(norm("_bn1", _padded(maps, state["_conv_head.weight"], 1)))


@pytest.mark.parametrize("size", [(96, 96), (75, 110)])
def test_folding_the_batch_norms_changes_nothing(model, published, size):
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = _plain(published, pixels)
        maps = model.last_maps(model.evidence_maps(pixels))
    assert maps.shape == expected.shape
    assert (maps - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_every_published_tensor_is_used_but_those_of_the_classifier(model, published):
    parts = sum(tensor.numel() for name, tensor in published.items() if tensor.is_floating_point() and not name.startswith("_fc"))
    norms = sum(tensor.numel() for name, tensor in published.items() if name.endswith("running_mean"))
    # Four vectors of a batch norm become one bias.
    assert sum(parameter.numel() for parameter in model.parameters()) == parts - 3 * norms


def test_padding_of_a_stride_of_two_goes_to_the_right_and_below():
    model = Lite0Model(Lite0Config(**SMALL))
    with torch.no_grad():
        model.stem.weight.zero_()
        # The kernel's upper left corner reads the pixel that the stride begins at; symmetric padding would read one before.
        model.stem.weight[0, 0, 0, 0] = 1
        maps = model.stem(torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4) / 4)
    assert maps[0, 0].tolist() == [[0, 0.5], [2, 2.5]]


def test_it_is_the_vision_half_of_transformers_models():
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    words = torch.tensor([[1, 2, 3], [4, 5, 6]])
    sizes = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    vision = Lite0Model(Lite0Config(**SMALL))
    cells = vision(pixels).last_hidden_state
    assert cells.shape == (2, 4, 16)
    pair = VisionTextDualEncoderModel(vision_model=vision, text_model=BertModel(BertConfig(**sizes)))
    assert pair(input_ids=words, pixel_values=pixels, return_loss=True).loss.isfinite()
    config = GPT2Config(vocab_size=10, n_embd=8, n_layer=1, n_head=2, add_cross_attention=True)
    writer = VisionEncoderDecoderModel(encoder=vision, decoder=GPT2LMHeadModel(config))
    assert writer(pixel_values=pixels, decoder_input_ids=words).logits.shape == (2, 3, 10)


def test_random_weights_let_a_signal_through():
    torch.manual_seed(5)
    model = Lite0Model(Lite0Config()).eval()
    with torch.inference_mode():
        cells = model(torch.randn(4, 3, 64, 64)).last_hidden_state
    assert 0.01 < cells.std() < 3
    assert (cells[0] - cells[1]).abs().mean() > 0.01
