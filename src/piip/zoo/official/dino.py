"""The official constructor arguments of DINO, as our configuration.

As in Mask R-CNN, the official dict says some things several times. All of it is read, and what cannot be meant or run
is refused.
"""

from collections.abc import Mapping
from typing import Any

from piip.config import ConfigError
from piip.pyramid import BackboneConfig
from piip.tasks.detection.dino import DenoisingConfig, DINOConfig, TermWeights, TransformerConfig
from piip.zoo.official.arguments import Arguments
from piip.zoo.official.branches import Architectures
from piip.zoo.official.detection import backbone_part

CLASSES = ("DINO",)

EMBED_DIM = 256
"""Width of the official transformer, whose embedding of boxes is made for no other."""

_ENCODER_LAYER = ["self_attn", "norm", "ffn", "norm"]
_DECODER_LAYER = ["self_attn", "norm", "cross_attn", "norm", "ffn", "norm"]


def dino_config(arguments: Arguments, state_dict: Mapping[str, Any] | None, convnexts: Architectures) -> DINOConfig:
    """Translate the arguments of the official `DINO`.

    How images are prepared is not among them: the result has the usual preprocessing.

    Args:
        arguments: of the official class.
        state_dict: the checkpoint to be loaded, if there is one; see `build_model`.
        convnexts: architectures beside the usual ones.

    Raises:
        ConfigError: for a part, argument or value that is not known or cannot be run, naming it.
    """
    arguments.ignore("pretrained", "init_cfg")  # where weights start from
    backbone = backbone_part(arguments, state_dict, convnexts)
    with arguments.blamed():
        num_levels = _neck(arguments.part("neck", "ChannelMapper"), backbone)
        head = arguments.part("bbox_head", "DINOHead")
        head.ignore("in_channels")  # of a layer that DINO does without
        for name in ("sync_cls_avg_factor", "as_two_stage", "with_box_refine"):
            head.expect(name, True)
        num_queries = head.get("num_query", int)
        training, test = arguments.part("train_cfg"), arguments.part("test_cfg")
        config = DINOConfig(
            backbone=backbone,
            num_classes=head.get("num_classes", int),
            num_queries=num_queries,
            transformer=_transformer(head.part("transformer", "DinoTransformer"), num_queries, num_levels),
            denoising=_denoising(head.part("dn_cfg", "CdnQueryGenerator")),
            costs=_costs(training.part("assigner", "HungarianAssigner")),
            losses=_losses(head),
            max_detections=test.get("max_per_img", int),
        )
        _positions(head.part("positional_encoding", "SinePositionalEncoding"))
        for read in (head, training, test, arguments):
            read.finish()
        return config


def _neck(neck: Arguments, backbone: BackboneConfig) -> int:
    neck.expect("in_channels", list(backbone.channels))
    neck.expect("kernel_size", 1)
    neck.expect("out_channels", EMBED_DIM)
    neck.expect("act_cfg", None)
    norm = neck.part("norm_cfg", "GN")
    norm.expect("num_groups", 32)
    norm.finish()
    num_levels: int = neck.get("num_outs", int)
    neck.finish()
    return num_levels


def _transformer(transformer: Arguments, num_queries: int, num_levels: int) -> TransformerConfig:
    transformer.expect("two_stage_num_proposals", num_queries)
    transformer.expect("num_feature_levels", num_levels, default=4)
    encoder = transformer.part("encoder", "DetrTransformerEncoder")
    decoder = transformer.part("decoder", "DinoTransformerDecoder")
    decoder.expect("return_intermediate", True)
    encoder_layer = encoder.part("transformerlayers", "BaseTransformerLayer")
    decoder_layer = decoder.part("transformerlayers", "DetrTransformerDecoderLayer")
    num_heads, num_points = _deformable(encoder_layer.part("attn_cfgs", "MultiScaleDeformableAttention"), num_levels)
    _decoder_attention(decoder_layer, num_heads, num_points, num_levels)
    mlp_dim = _feed_forward(encoder_layer, _ENCODER_LAYER)
    _same(decoder_layer, "feedforward_channels", _feed_forward(decoder_layer, _DECODER_LAYER), mlp_dim)
    config = TransformerConfig(
        embed_dim=EMBED_DIM,
        num_levels=num_levels,
        num_heads=num_heads,
        num_points=num_points,
        mlp_dim=mlp_dim,
        encoder_layers=encoder.get("num_layers", int),
        decoder_layers=decoder.get("num_layers", int),
    )
    for read in (encoder_layer, decoder_layer, encoder, decoder, transformer):
        read.finish()
    return config


def _decoder_attention(layer: Arguments, num_heads: int, num_points: int, num_levels: int) -> None:
    attentions = layer.get("attn_cfgs", (list, tuple))
    if len(attentions) != 2:
        raise ConfigError(f"{layer.where}.attn_cfgs: expected two, of the queries and of the maps; got {attentions!r}")
    own, others = (Arguments(each, f"{layer.where}.attn_cfgs[{index}]") for index, each in enumerate(attentions))
    own.expect("type", "MultiheadAttention")
    own.expect("embed_dims", EMBED_DIM)
    own.expect("num_heads", num_heads)
    own.expect("dropout", 0.0)
    own.finish()
    others.expect("type", "MultiScaleDeformableAttention")
    _same(others, "num_heads, num_points", _deformable(others, num_levels), (num_heads, num_points))


def _deformable(attention: Arguments, num_levels: int) -> tuple[int, int]:
    """The heads and points of deformable attention."""
    attention.expect("embed_dims", EMBED_DIM)
    attention.expect("dropout", 0.0)
    attention.expect("num_levels", num_levels, default=4)
    heads, points = attention.get("num_heads", int, 8), attention.get("num_points", int, 4)
    attention.finish()
    return heads, points


def _feed_forward(layer: Arguments, order: list[str]) -> int:
    """The hidden width of a layer."""
    layer.expect("operation_order", order)
    layer.expect("ffn_dropout", 0.0)
    width: int = layer.get("feedforward_channels", int)
    return width


def _same(arguments: Arguments, name: str, value: Any, of_encoder: Any) -> None:
    if value != of_encoder:
        raise ConfigError(f"{arguments.where}.{name}: {value}, but {of_encoder} in the encoder; ours has one for both")


def _denoising(generator: Arguments) -> DenoisingConfig:
    noise, groups = generator.part("noise_scale"), generator.part("group_cfg")
    groups.expect("dynamic", True)
    groups.expect("num_groups", None, default=None)
    config = DenoisingConfig(
        num_queries=groups.get("num_dn_queries", int),
        label_noise=noise.number("label"),
        box_noise=noise.number("box"),
    )
    for read in (noise, groups, generator):
        read.finish()
    return config


def _positions(encoding: Arguments) -> None:
    encoding.expect("num_feats", EMBED_DIM // 2)
    encoding.expect("temperature", 20)
    encoding.expect("normalize", True)
    encoding.finish()


def _losses(head: Arguments) -> TermWeights:
    focal = head.part("loss_cls", "FocalLoss")
    focal.expect("use_sigmoid", True)
    focal.expect("gamma", 2.0)
    focal.expect("alpha", 0.25)
    terms = [focal, head.part("loss_bbox", "L1Loss"), head.part("loss_iou", "GIoULoss")]
    return _weights(terms, "loss_weight")


def _costs(assigner: Arguments) -> TermWeights:
    terms = [
        assigner.part("cls_cost", "FocalLossCost"),
        assigner.part("reg_cost", "BBoxL1Cost"),
        assigner.part("iou_cost", "IoUCost"),
    ]
    terms[1].expect("box_format", "xywh")
    terms[2].expect("iou_mode", "giou")
    weights = _weights(terms, "weight")
    assigner.finish()
    return weights


def _weights(terms: list[Arguments], name: str) -> TermWeights:
    label, distance, overlap = (term.number(name) for term in terms)
    for term in terms:
        term.finish()
    return TermWeights(label=label, distance=distance, overlap=overlap)
