"""The layers of the transformer pass their hints of causal masks on to attention."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import gradient
from gradient import Tensor, nn
from gradient.errors import ShapeError

X, MEMORY = gradient.ones(3, 2, 8), gradient.ones(4, 2, 8)
MASK = nn.Transformer.generate_square_subsequent_mask(3)


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16)


def decoder_layer() -> nn.Module:
    return nn.TransformerDecoderLayer(8, 2, 16)


@pytest.mark.parametrize(
    ("make", "inputs", "hint", "mask"),
    [
        (encoder_layer, (X,), "is_causal", "src_mask"),
        (lambda: nn.TransformerEncoder(encoder_layer(), 1), (X,), "is_causal", "mask"),
        (decoder_layer, (X, MEMORY), "tgt_is_causal", "tgt_mask"),
        (decoder_layer, (X, X), "memory_is_causal", "memory_mask"),
        (lambda: nn.TransformerDecoder(decoder_layer(), 1), (X, X), "tgt_is_causal", "tgt_mask"),
        (lambda: nn.Transformer(8, 2, 1, 1, 16), (X, X), "src_is_causal", "src_mask"),
        (lambda: nn.Transformer(8, 2, 1, 1, 16), (X, X), "tgt_is_causal", "tgt_mask"),
    ],
)
def test_a_causal_hint_needs_the_mask(
    make: Callable[[], nn.Module], inputs: tuple[Tensor, ...], hint: str, mask: str
) -> None:
    layer = make().eval()
    with pytest.raises(ShapeError, match="is_causal=True needs attn_mask"):
        layer(*inputs, **{hint: True})
    hinted = layer(*inputs, **{hint: True, mask: MASK})
    assert hinted.tolist() == layer(*inputs, **{mask: MASK}).tolist()


def test_layers_of_an_encoder_receive_the_hint() -> None:
    class Layer(nn.Module):
        def forward(self, src: Tensor, **options: object) -> Tensor:
            seen.append(options["is_causal"])
            return src

    seen: list[object] = []
    encoder = nn.TransformerEncoder(Layer(), 2)
    encoder(X, mask=MASK, is_causal=True)
    encoder(X)
    assert seen == [True, True, False, False]
