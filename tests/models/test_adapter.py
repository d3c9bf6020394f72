import torch

from engine.encoders import load_encoder
from engine.models.adapter import LowRank, attach, merge


def test_the_difference_by_hand():
    layer = LowRank(torch.nn.Linear(2, 2), rank=1)
    with torch.no_grad():
        layer.base.weight.copy_(torch.eye(2))
        layer.base.bias.zero_()
        layer.down.copy_(torch.tensor([[1.0, 2.0]]))
        layer.up.copy_(torch.tensor([[3.0], [0.0]]))
    assert layer(torch.tensor([[1.0, 1.0]])).tolist() == [[10.0, 1.0]]


def test_a_new_adapter_changes_nothing_and_a_merged_one_is_the_attached_one():
    ids = torch.randint(1000, 2000, (2, 7))
    plain = load_encoder("tiny:bert", torch.float32, "eager")
    adapted = load_encoder("tiny:bert", torch.float32, "eager")
    attach(adapted, 2)
    before = plain(ids).last_hidden_state
    assert torch.allclose(adapted(ids).last_hidden_state, before, atol=1e-6)
    assert all(p.requires_grad == n.endswith((".down", ".up")) for n, p in adapted.named_parameters())
    for name, value in adapted.named_parameters():
        if name.endswith(".up"):
            torch.nn.init.normal_(value, std=0.2)
    merge(plain, {name: value for name, value in adapted.state_dict().items() if name.endswith((".down", ".up"))})
    after = plain(ids).last_hidden_state
    assert not torch.allclose(after, before, atol=1e-2)
    assert torch.allclose(after, adapted(ids).last_hidden_state, atol=1e-5)
