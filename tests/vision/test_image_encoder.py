import copy

import pytest
import torch

from engine.errors import ConfigError
from engine.vision.encoders import LITE0, load_image_encoder

NAMES = ("tiny:lite0", "tiny:vit", "tiny:dinov2", LITE0)


@pytest.fixture(scope="module", params=NAMES)
def encoder(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return load_image_encoder(request.param, torch.float32)


def _pixels(count: int, side: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(11))


def _first_hidden(encoder, pixels):
    """The same vector by transformers' own way through the model."""
    if encoder.model.config.model_type == "efficientnet_lite0":
        hidden = encoder.model(pixels).last_hidden_state
        return torch.cat((hidden.mean(1), hidden.amax(1)), 1)
    options = {"interpolate_pos_encoding": True} if encoder.model.config.model_type == "vit" else {}
    return encoder.model(pixels, **options).last_hidden_state[:, 0]


@pytest.mark.parametrize("side", [64, 96])
@torch.inference_mode()
def test_cells_and_pooled_are_the_two_halves_of_the_model(encoder, side):
    pixels = _pixels(2, side)
    cells = encoder.cells(pixels)
    rows, columns = encoder.grid(side)
    assert (rows, columns) == (side // 16, side // 16)
    assert cells.shape == (2, rows * columns, encoder.cell_width)
    pooled = encoder.pooled(cells, side)
    assert pooled.shape == (2, encoder.width)
    assert torch.equal(pooled, encoder(pixels))
    assert torch.allclose(pooled, _first_hidden(encoder, pixels), atol=1e-5)


@torch.inference_mode()
def test_cells_come_row_by_row(encoder):
    pixels = _pixels(1)
    cells = encoder.cells(pixels)[0].unflatten(0, encoder.grid(64))
    if encoder.model.config.model_type == "efficientnet_lite0":
        assert torch.equal(cells[1, 2], encoder.model.evidence_maps(pixels)[0, :, 1, 2])
    else:
        pixels[:, :, 16:32, 32:48] = 0
        changed = (encoder.cells(pixels)[0].unflatten(0, (4, 4)) != cells).any(-1)
        assert changed.nonzero().tolist() == [[1, 2]]


@torch.inference_mode()
def test_a_blank_image_is_the_mean_everywhere(encoder):
    blank = encoder.blank(64)
    assert torch.allclose(blank, encoder.cells(torch.zeros(2, 3, 64, 64))[1], atol=1e-5)


@torch.inference_mode()
def test_an_image_alone_is_the_same_as_in_a_batch(encoder):
    pixels = _pixels(5)
    together = encoder(pixels)
    alone = torch.cat([encoder(image[None]) for image in pixels])
    assert (together - alone).abs().max() <= 1e-5 * together.abs().max()
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_a_gradient_reaches_every_cell(encoder):
    cells = encoder.cells(_pixels(2)).detach().requires_grad_()
    weights = torch.randn(encoder.width, generator=torch.Generator().manual_seed(2))
    (encoder.pooled(cells, 64) @ weights).sum().backward()
    assert (cells.grad.abs().sum(-1) > 0).all()


@torch.inference_mode()
def test_half_precision_is_close(encoder):
    pixels = _pixels(3, 96)
    exact = encoder(pixels)
    half = copy.deepcopy(encoder).bfloat16()
    cells = half.cells(pixels)
    rounded = half.pooled(cells, 96)
    attention = half.attention(pixels)
    assert cells.dtype is torch.bfloat16
    assert rounded.dtype is torch.float32
    assert attention is None or attention.dtype is torch.float32
    assert torch.nn.functional.cosine_similarity(exact, rounded).min() > 0.99


@torch.inference_mode()
def test_attention_is_that_of_the_last_block(encoder):
    pixels = _pixels(2, 96)
    attention = encoder.attention(pixels)
    if encoder.model.config.model_type == "efficientnet_lite0":
        assert attention is None
        return
    encoder.model.set_attn_implementation("eager")
    options = {"interpolate_pos_encoding": True} if encoder.model.config.model_type == "vit" else {}
    expected = encoder.model(pixels, output_attentions=True, **options).attentions[-1][:, :, 0, 1:]
    encoder.model.set_attn_implementation("sdpa")
    assert attention.shape == (2, 2, 36)
    assert torch.allclose(attention, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["tiny:vit", "tiny:dinov2"])
def test_a_side_that_patches_do_not_divide_is_refused(name):
    encoder = load_image_encoder(name, torch.float32)
    with pytest.raises(ConfigError, match="patches of 16"):
        encoder.cells(torch.zeros(1, 3, 70, 70))
