"""transformers, PEFT, accelerate and x_transformers."""

from __future__ import annotations

import functools
import importlib
import tempfile
from typing import Any

import torch

from cases import fill, image, integers, normal

CASES: dict[str, Any] = {}

SMALL: dict[str, Any] = {
    "vocab_size": 30, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2,
}  # fmt: skip
GROUPED = {**SMALL, "num_key_value_heads": 1}
OF_8 = {**GROUPED, "head_dim": 8}
GPT2 = {
    "n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 30, "n_positions": 32,
    "resid_pdrop": 0, "attn_pdrop": 0, "embd_pdrop": 0,
}  # fmt: skip


def of_transformers(config: str, model: str, options: dict[str, Any]) -> Any:
    library: Any = importlib.import_module("transformers")
    made = getattr(library, model)(getattr(library, config)(**options))
    return made, lambda m: m(integers(30, 2, 9)).logits


for family, head, options in (
    ("Llama", "ForCausalLM", SMALL), ("Mistral", "ForCausalLM", GROUPED),
    ("Qwen3", "ForCausalLM", OF_8), ("Gemma2", "ForCausalLM", OF_8), ("Phi", "ForCausalLM", SMALL),
    ("Mixtral", "ForCausalLM", {**GROUPED, "num_local_experts": 2}),
    ("GptOss", "ForCausalLM", {**OF_8, "num_local_experts": 2, "num_experts_per_tok": 1}),
    ("Bert", "ForMaskedLM", SMALL), ("Electra", "ForMaskedLM", {**SMALL, "embedding_size": 16}),
    ("GPT2", "LMHeadModel", GPT2), ("GPTNeoX", "ForCausalLM", SMALL),
    ("Falcon", "ForCausalLM", SMALL), ("Bloom", "ForCausalLM", {**GPT2, "hidden_size": 16}),
    ("Mamba", "ForCausalLM", {**SMALL, "state_size": 4}),
    ("DebertaV2", "ForMaskedLM", {**SMALL, "pos_att_type": ["c2p", "p2c"]}),
):  # fmt: skip
    name = f"transformers: {family}{head}"
    CASES[name] = functools.partial(of_transformers, f"{family}Config", f"{family}{head}", options)


def generation() -> Any:
    import transformers as t

    config = t.LlamaConfig(**SMALL, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model = t.LlamaForCausalLM(config)
    return model, lambda m: m.generate(integers(30, 2, 5), max_new_tokens=8, do_sample=False)


def whisper() -> Any:
    import transformers as t

    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
    }
    config = t.WhisperConfig(
        vocab_size=40, d_model=16, **sides, max_source_positions=20, max_target_positions=20,
        num_mel_bins=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    model = t.WhisperForConditionalGeneration(config)
    sound, text = normal(2, 8, 40), integers(30, 2, 6)
    return model, lambda m: m(input_features=sound, labels=text).loss


def clip() -> Any:
    import transformers as t

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    sizes["num_attention_heads"] = 2
    text = {**sizes, "vocab_size": 30, "max_position_embeddings": 16, "eos_token_id": 2}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    config = t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    words = integers(30, 2, 7)
    return t.CLIPModel(config), lambda m: m(words, image(), return_loss=True).loss


def trainer() -> Any:
    import transformers as t

    rows = [integers(30, 9, seed=seed) for seed in range(8)]
    data = [{"input_ids": row, "labels": row} for row in rows]

    def call() -> Any:
        model = fill(t.GPT2LMHeadModel(t.GPT2Config(**GPT2, pad_token_id=0)), 0.1)
        with tempfile.TemporaryDirectory() as folder:
            options = t.TrainingArguments(
                folder, per_device_train_batch_size=4, num_train_epochs=2, report_to=[],
                save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
                learning_rate=1e-3,
            )  # fmt: skip
            made = t.Trainer(model, options, train_dataset=data)
            made._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(data)
            made.train()
        return list(model.parameters())

    return call


CASES["transformers: generate"] = generation
CASES["transformers: Whisper"] = whisper
CASES["transformers: CLIP"] = clip
CASES["transformers: Trainer"] = trainer


def lora() -> Any:
    import peft
    import transformers as t

    adapter = peft.LoraConfig(r=2, target_modules=["c_attn"], init_lora_weights=False)
    model = peft.get_peft_model(t.GPT2LMHeadModel(t.GPT2Config(**GPT2)), adapter)
    return model, lambda m: m(integers(30, 2, 9), labels=integers(30, 2, 9)).loss


def accelerator() -> Any:
    import accelerate

    def call() -> Any:
        own = accelerate.Accelerator(cpu=True)
        model = fill(torch.nn.Linear(4, 2), 1.0)
        data = torch.utils.data.TensorDataset(normal(8, 4), normal(8, 2, seed=1))
        model, optimizer, loader = own.prepare(
            model, torch.optim.SGD(model.parameters(), 0.1), torch.utils.data.DataLoader(data, 4)
        )
        for x, y in loader:
            with own.accumulate(model):
                own.backward(torch.nn.functional.mse_loss(model(x), y))
                own.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        return list(model.parameters())

    return call


CASES["peft: LoRA"] = lora
CASES["accelerate: steps"] = accelerator


def x_transformer(options: dict[str, Any]) -> Any:
    import x_transformers as x

    layers = x.Decoder(dim=32, depth=2, heads=2, attn_dim_head=16, **options)
    model = x.TransformerWrapper(num_tokens=50, max_seq_len=32, attn_layers=layers)
    return model, lambda m: m(integers(50, 2, 17))


for name, options in {
    "plain": {}, "rotary": {"rotary_pos_emb": True}, "ALiBi": {"alibi_pos_bias": True},
    "one key head": {"attn_one_kv_head": True}, "sparse": {"attn_sparse_topk": 4},
    "macaron": {"macaron": True}, "memory": {"attn_num_mem_kv": 3},
}.items():  # fmt: skip
    CASES[f"x_transformers: {name}"] = functools.partial(x_transformer, options)
