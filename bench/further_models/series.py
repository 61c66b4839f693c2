"""Models of sound and time series."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.further_models.supervision import next_token_by_column, supervised
from bench.training_models import Built, TrainingModel


def wavenet(package: Any) -> Built:
    """Gated causal convolutions with dilations 1, 2, 4 ..., whose skip outputs are added up (van
    den Oord et al. 2016). Sound in 256 levels."""
    nn, F = package.nn, package.nn.functional
    width, skip, dilations = 32, 64, [2**i for i in range(8)]

    class Layer(nn.Module):
        def __init__(self, dilation: int) -> None:
            super().__init__()
            self.dilation = dilation
            self.filter = nn.Conv1d(width, width, 2, dilation=dilation)
            self.gate = nn.Conv1d(width, width, 2, dilation=dilation)
            self.residual, self.skip = nn.Conv1d(width, width, 1), nn.Conv1d(width, skip, 1)

        def forward(self, x: Any) -> tuple[Any, Any]:
            past = F.pad(x, (self.dilation, 0))
            y = package.tanh(self.filter(past)) * package.sigmoid(self.gate(past))
            return x + self.residual(y), self.skip(y)

    class WaveNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(256, width)
            self.layers = nn.ModuleList([Layer(dilation) for dilation in dilations])
            self.end1, self.end2 = nn.Conv1d(skip, skip, 1), nn.Conv1d(skip, 256, 1)

        def forward(self, levels: Any) -> Any:
            x = self.embedding(levels).transpose(1, 2)
            total = 0
            for layer in self.layers:
                x, part = layer(x)
                total = total + part
            return self.end2(F.relu(self.end1(F.relu(total))))

    return next_token_by_column(package, WaveNet(), 256, 4, 512)


def temporal_convolutions(package: Any) -> Built:
    """Residual blocks of two weight-normalized causal convolutions, whose surplus at the end is cut
    off (Bai et al. 2018)."""
    nn, F = package.nn, package.nn.functional
    weight_norm = nn.utils.parametrizations.weight_norm

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
            super().__init__()
            self.surplus = 2 * dilation
            self.conv1, self.conv2 = (
                weight_norm(nn.Conv1d(n, outputs, 3, padding=2 * dilation, dilation=dilation))
                for n in (inputs, outputs)
            )
            self.dropout = nn.Dropout(0.2)
            self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else None

        def forward(self, x: Any) -> Any:
            y = x
            for convolution in (self.conv1, self.conv2):
                y = convolution(y)[:, :, : -self.surplus].contiguous()
                y = self.dropout(F.relu(y))
            return F.relu(y + (x if self.skip is None else self.skip(x)))

    class TCN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [1, 25, 25, 25, 25, 25]
            blocks = [Block(widths[i], widths[i + 1], 2**i) for i in range(5)]
            self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(25, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.blocks(x)[:, :, -1])

    draws = np.random.default_rng(0)
    x = draws.standard_normal((16, 1, 392), dtype=np.float32)
    return supervised(TCN(), F.cross_entropy, x, draws.integers(0, 10, 16))


def keyword_spotting(package: Any) -> Built:
    """The logarithm of a mel spectrogram, and convolutions over time (Choi et al. 2019)."""
    nn = package.nn
    points, bands = 400, 40

    def mel() -> np.ndarray:
        edges = 700 * (10 ** (np.linspace(0, 2840, bands + 2) / 2595) - 1)
        bins = np.linspace(0, 8000, points // 2 + 1)[:, None]
        rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
        fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
        return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)

    def block(inputs: int, outputs: int, stride: int) -> Any:
        convolution = nn.Conv1d(inputs, outputs, 9, stride, padding=4, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm1d(outputs), nn.ReLU())

    class Spotter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("window", package.hann_window(points))
            self.register_buffer("mel", package.tensor(mel()))
            widths = [bands, 32, 48, 64, 96]
            blocks = [block(widths[i], widths[i + 1], 1 if i == 0 else 2) for i in range(4)]
            self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(96, 12)

        def forward(self, sound: Any) -> Any:
            spectrum = package.stft(
                sound, points, hop_length=160, window=self.window, return_complex=True
            )
            power = spectrum.abs() ** 2
            x = package.log(power.transpose(1, 2) @ self.mel + 1e-6).transpose(1, 2)
            x = (x - x.mean(dim=-1, keepdim=True)) / (x.std(dim=-1, keepdim=True) + 1e-5)
            return self.head(self.blocks(x).mean(dim=-1))

    draws = np.random.default_rng(0)
    sound = draws.standard_normal((16, 8000), dtype=np.float32)
    return supervised(Spotter(), nn.functional.cross_entropy, sound, draws.integers(0, 12, 16))


def speech(package: Any) -> Built:
    """Convolutions over the bands of a spectrogram and a GRU, trained by CTC (Graves et al. 2006;
    Amodei et al. 2015)."""
    nn, F = package.nn, package.nn.functional
    letters, frames, batch, written = 29, 200, 8, 20

    class Recognizer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolutions = nn.Sequential(
                *(nn.Conv1d(40, 96, 11, 2, 5), nn.BatchNorm1d(96), nn.Hardtanh(0, 20)),
                *(nn.Conv1d(96, 96, 11, 1, 5), nn.BatchNorm1d(96), nn.Hardtanh(0, 20)),
            )
            self.gru = nn.GRU(96, 96, bidirectional=True)
            self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, letters)

        def forward(self, x: Any) -> Any:
            x, _ = self.gru(self.convolutions(x).permute(2, 0, 1))
            return F.log_softmax(self.head(self.norm(x)), dim=-1)

    model, ctc = Recognizer(), nn.CTCLoss(blank=0, zero_infinity=True)
    frame_lengths = package.full((batch,), frames // 2, dtype=package.long)
    draws = np.random.default_rng(0)
    letter_lengths = package.tensor(draws.integers(10, written + 1, batch))

    def loss(x: Any, y: Any) -> Any:
        return ctc(model(x), y, frame_lengths, letter_lengths)

    x = draws.standard_normal((batch, 40, frames), dtype=np.float32)
    return model, loss, [x, draws.integers(1, letters, (batch, written))]


def deep_ar(package: Any) -> Built:
    """A forecast of the distribution of the next value of each series, divided by the series' mean
    (Salinas et al. 2020)."""
    nn = package.nn
    time, width = 60, 40

    draws = np.random.default_rng(0)

    class DeepAR(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kind = nn.Embedding(370, 20)
            self.lstm = nn.LSTM(1 + 4 + 20, width, 3, dropout=0.1, batch_first=True)
            self.mean, self.deviation = nn.Linear(width, 1), nn.Linear(width, 1)
            self.kinds = package.tensor(draws.integers(0, 370, 32))

        def forward(self, z: Any, covariates: Any) -> Any:
            scale = 1 + z[:, :48].abs().mean(dim=1, keepdim=True)
            last = (z[:, :-1] / scale).unsqueeze(-1)
            kind = self.kind(self.kinds).unsqueeze(1).expand(-1, last.size(1), -1)
            x, _ = self.lstm(package.cat([last, covariates, kind], dim=-1))
            mean = self.mean(x).squeeze(-1) * scale
            deviation = nn.functional.softplus(self.deviation(x)).squeeze(-1) * scale
            normal = package.distributions.Normal(mean, deviation + 1e-4)
            return -normal.log_prob(z[:, 1:]).mean()

    model = DeepAR()
    z = draws.gamma(2.0, 3.0, (32, time + 1)).astype(np.float32)
    return model, model, [z, draws.standard_normal((32, time, 4), dtype=np.float32)]


def n_beats(package: Any) -> Built:
    """Blocks that each explain part of a series by polynomials, waves, or freely, and pass on the
    rest (Oreshkin et al. 2020). The loss is the symmetric relative error."""
    nn = package.nn
    past, future, width = 70, 14, 128

    class Block(nn.Module):
        def __init__(self, basis: str) -> None:
            super().__init__()
            layers = [nn.Linear(past, width), nn.ReLU()]
            for _ in range(3):
                layers += [nn.Linear(width, width), nn.ReLU()]
            self.layers, self.free = nn.Sequential(*layers), basis == "free"
            if not self.free:
                forms = [self.forms(basis, n) for n in (past, future)]
                self.register_buffer("back", package.tensor(forms[0]))
                self.register_buffer("ahead", package.tensor(forms[1]))
            sizes = (past, future) if self.free else (len(self.back), len(self.ahead))
            self.theta_back, self.theta_ahead = (nn.Linear(width, n) for n in sizes)

        @staticmethod
        def forms(basis: str, steps: int) -> np.ndarray:
            t = np.arange(steps, dtype=np.float32) / steps
            if basis == "trend":
                return np.stack([t**p for p in range(4)])
            angles = 2 * np.pi * np.arange(1, future // 2)[:, None] * t
            return np.concatenate([np.cos(angles), np.sin(angles)]).astype(np.float32)

        def forward(self, x: Any) -> tuple[Any, Any]:
            x = self.layers(x)
            back, ahead = self.theta_back(x), self.theta_ahead(x)
            return (back, ahead) if self.free else (back @ self.back, ahead @ self.ahead)

    class NBeats(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([Block(b) for b in ("trend", "season", "free") * 3])

        def forward(self, x: Any) -> Any:
            scale = x.abs().amax(dim=1, keepdim=True)
            rest = x / scale
            forecast = x.new_zeros(x.size(0), future)
            for block in self.blocks:
                back, ahead = block(rest)
                rest, forecast = rest - back, forecast + ahead
            return forecast * scale

    def relative_error(forecast: Any, y: Any) -> Any:
        distance, size = package.abs(forecast - y), forecast.abs() + y.abs()
        error = package.where(size == 0, package.zeros_like(size), distance / size)
        return 200 * error.mean()

    series = np.random.default_rng(0).gamma(2.0, 3.0, (256, past + future)).astype(np.float32)
    return supervised(NBeats(), relative_error, series[:, :past].copy(), series[:, past:].copy())


def patch_tst(package: Any) -> Built:
    """Each channel of a series on its own, in patches that overlap, with its mean and deviation
    taken out and put back (Nie et al. 2023; Kim et al. 2022)."""
    nn, F = package.nn, package.nn.functional
    past, future, channels, patch, stride, width = 336, 48, 7, 16, 8, 32

    class PatchTST(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            patches = (past - patch) // stride + 2
            self.pad = nn.ReplicationPad1d((0, stride))
            self.scale = nn.Parameter(package.ones(channels))
            self.shift = nn.Parameter(package.zeros(channels))
            self.embed = nn.Linear(patch, width)
            self.places = nn.Parameter(package.rand(patches, width) * 0.04 - 0.02)
            layer = nn.TransformerEncoderLayer(
                width, 4, 4 * width, dropout=0.1, activation="gelu", batch_first=True
            )
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.norm = nn.BatchNorm1d(width)
            self.head = nn.Linear(patches * width, future)

        def forward(self, x: Any) -> Any:
            mean = x.mean(dim=1, keepdim=True).detach()
            deviation = package.sqrt(x.var(dim=1, keepdim=True, unbiased=False) + 1e-5).detach()
            x = (x - mean) / deviation * self.scale + self.shift
            x = self.pad(x.permute(0, 2, 1)).unfold(dimension=-1, size=patch, step=stride)
            x = (self.embed(x) + self.places).flatten(0, 1)
            x = self.norm(self.encoder(x).transpose(1, 2)).flatten(start_dim=1)
            x = self.head(x).view(-1, channels, future).transpose(1, 2)
            return (x - self.shift) / (self.scale + 1e-10) * deviation + mean

    draws = np.random.default_rng(0)
    series = draws.standard_normal((8, past + future, channels), dtype=np.float32).cumsum(1)
    return supervised(PatchTST(), F.mse_loss, series[:, :past].copy(), series[:, past:].copy())


MODELS = [
    TrainingModel("WaveNet 8 x 32, 4 x 512", wavenet),
    TrainingModel("TCN 5 x 25, 16 x 392", temporal_convolutions),
    TrainingModel("Keyword spotting, 16 x 8000", keyword_spotting),
    TrainingModel("Speech by CTC, 8 x 200", speech),
    TrainingModel("DeepAR 3 x 40, 32 x 60", deep_ar),
    TrainingModel("N-BEATS 9 x 128, 256", n_beats),
    TrainingModel("PatchTST 2 x 32, 8 x 7 x 336", patch_tst),
]
