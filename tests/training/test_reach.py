import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from piip.tasks.classification.heads import SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.training.reach import freeze_unreached, kept_trainable, reached_parameters
from tiny_models import tiny_pyramid, tiny_vit


def test_it_agrees_with_the_gradients():
    torch.manual_seed(0)
    branches = tiny_vit(embed_dim=64), tiny_vit(image_size=48, activation_checkpointing=True)
    head = SeparateHeadsConfig(num_classes=3, branches=(2,))
    model = ClassificationConfig(pyramid=tiny_pyramid(*branches), head=head).build()
    loss = model(torch.randn(2, 3, 48, 48), torch.tensor([0, 1]))["cross_entropy"]
    reached = reached_parameters(loss)
    loss.backward()
    assert reached == {parameter for parameter in model.parameters() if parameter.grad is not None}
    unreached = freeze_unreached(model, model(torch.randn(2, 3, 48, 48), torch.tensor([0, 1]))["cross_entropy"])
    assert unreached
    assert all(name.startswith("pyramid.interactions.1.") for name in unreached)
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == set(unreached)


def test_checkpointed_and_shared_parts_count():
    first, second, unused = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    hidden = checkpoint(first, torch.randn(1, 2), use_reentrant=False)
    loss = (second(hidden) + first(hidden)).sum()
    assert reached_parameters(loss) == {*first.parameters(), *second.parameters()}
    assert not set(unused.parameters()) & reached_parameters(loss)


def test_only_what_was_trainable_is_so_again():
    layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    layers[0].requires_grad_(False)
    with kept_trainable(layers):
        layers.requires_grad_(False)
    assert [parameter.requires_grad for parameter in layers.parameters()] == [False, False, True, True]
