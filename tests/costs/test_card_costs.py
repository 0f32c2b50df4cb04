"""What the cards say of parameters and FLOPs, against what their models come to."""

import pytest
from test_official_cost import printed

from piip import list_models
from piip.costs import official_cost
from piip.tasks.classification.model import ClassificationConfig
from piip.zoo.cards import ModelCard, find_card

CARDS = [card for card in map(find_card, list_models()) if card.published is not None and card.published.flops]

# See `UNEXPLAINED` of test_official_cost.py.
OTHER_FLOPS = {
    "paper_upernet_internvit_lh6b_640_512_192",
    "paper_upernet_internvit_lh6b_640_512_256",
    "paper_upernet_internvit_lh6b_640_512_384",
    "paper_mask_rcnn_internvit_lh6b_1280_1024_256",
    "paper_mask_rcnn_internvit_lh6b_1280_1024_512",
    "paper_mask_rcnn_internvit_lh6b_1280_1024_640",
    "paper_mask_rcnn_deit_tsb_448_672_896",
    "paper_mask_rcnn_deit_tsb_896_672_448",  # rounded twice
}
OTHER_PARAMS = {
    "paper_mask_rcnn_internvit_lh6b_1280_1024_256",
    "upernet_internvit_6b_512_80k_ade20k_bs16_lr4e-5",
    "paper_piip_b_512-256-128_from_scratch",  # printed without the head
}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_cards_cost_what_is_published(card: ModelCard) -> None:
    config = card.config()
    source = config if isinstance(config, ClassificationConfig) else config.backbone
    pyramid = config.pyramid if isinstance(config, ClassificationConfig) else config.backbone.pyramid
    parts = official_cost(source, (pyramid.image_size, pyramid.image_size)).values()
    flops = printed(sum(part.flops for part in parts), f"{card.published.flops:g}G")
    assert (flops == "no") == (card.name in OTHER_FLOPS)
    if card.published.params is not None:
        params = printed(sum(part.params for part in parts), f"{card.published.params:g}M")
        assert (params == "no") == (card.name in OTHER_PARAMS)
