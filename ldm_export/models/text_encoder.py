"""The text transformer of CLIP (Radford et al. 2021, arXiv 2103.00020); checked against transformers 4.57.

Pre-norm GPT-2 layers with a causal mask, initialised for training as CLIP's own code does it (openai/CLIP,
`initialize_parameters`). Shapes: B batch, T tokens, D = hidden_size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm_export.configs.text_encoder import TextEncoderConfig

# The `eos_token_id` of configs written before transformers 4.31, when the key had no effect.
LEGACY_EOS_TOKEN_ID = 2


class CLIPTextEmbeddings(nn.Module):
    """Token plus learned position."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.01)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map input_ids (B, T) to (B, T, D)."""
        return self.token_embedding(input_ids) + self.position_embedding.weight[: input_ids.shape[1]]


def _scale_residual(linear: nn.Linear, config: TextEncoderConfig) -> None:
    """Scale the weights so that the sum of two residuals per layer keeps the scale of one."""
    nn.init.normal_(linear.weight, std=(2 * config.num_hidden_layers * config.hidden_size) ** -0.5)


class CLIPAttention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            nn.init.normal_(linear.weight, std=config.hidden_size**-0.5)
            nn.init.zeros_(linear.bias)
        _scale_residual(self.out_proj, config)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, D) to (B, T, D)."""
        query = self._split_heads(self.q_proj(x))
        key = self._split_heads(self.k_proj(x))
        value = self._split_heads(self.v_proj(x))
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out_proj(attended.transpose(1, 2).flatten(2))  # (B, heads, T, D/heads) -> (B, T, D)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, heads, T, D/heads)


class CLIPMLP(nn.Module):
    """Two linear layers around QuickGELU (OpenAI's CLIP) or GELU (OpenCLIP)."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.quick = config.hidden_act == "quick_gelu"
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        nn.init.normal_(self.fc1.weight, std=(2 * config.hidden_size) ** -0.5)
        _scale_residual(self.fc2, config)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        x = x * torch.sigmoid(1.702 * x) if self.quick else F.gelu(x)
        return self.fc2(x)


class CLIPEncoderLayer(nn.Module):
    """Attention and MLP, each a residual after LayerNorm."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.self_attn = CLIPAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = CLIPMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class CLIPEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CLIPEncoderLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the hidden states (B, T, D): `x`, then the output of each layer."""
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states


class CLIPTextTransformer(nn.Module):
    """Embeddings, layers, final norm, and the pooled token."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.eos_token_id = config.eos_token_id
        self.embeddings = CLIPTextEmbeddings(config)
        self.encoder = CLIPEncoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.encode(input_ids)[:2]

    def encode(self, input_ids: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return what `forward` does, and the hidden states before the first and after each layer, without the norm."""
        states = self.encoder(self.embeddings(input_ids))
        last_hidden_state = self.final_layer_norm(states[-1])
        rows = torch.arange(input_ids.shape[0], device=input_ids.device)
        return last_hidden_state, last_hidden_state[rows, self._end_positions(input_ids)], states

    def _end_positions(self, input_ids: Tensor) -> Tensor:
        """Find where each prompt ends: (B, T) -> (B,)."""
        ids = input_ids.to(torch.int32)  # argmax over int64 is not in every ONNX runtime
        if self.eos_token_id == LEGACY_EOS_TOKEN_ID:
            return ids.argmax(dim=-1)  # end-of-text has the highest id of CLIP's vocabulary
        return (ids == self.eos_token_id).to(torch.int32).argmax(dim=-1)


class CLIPTextModel(nn.Module):
    """The text encoder of Stable Diffusion 1.x (CLIP-L) and 2.x (OpenCLIP-H without its last layer)."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = CLIPTextTransformer(config)

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Map input_ids (B, T) to last_hidden_state (B, T, D), pooler_output (B, D); T up to the window."""
        return self.text_model(input_ids)
