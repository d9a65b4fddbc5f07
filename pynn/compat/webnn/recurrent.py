"""The recurrent networks, with pywebnn's signatures: ``reset_after`` is False by default."""

from __future__ import annotations

from .operand import MLOperand
from .operators import StructuralMethods


class RecurrentMethods(StructuralMethods):
    def gru(
        self,
        input: MLOperand,
        weight: MLOperand,
        recurrent_weight: MLOperand,
        steps: int,
        hidden_size: int,
        bias: MLOperand | None = None,
        recurrent_bias: MLOperand | None = None,
        initial_hidden_state: MLOperand | None = None,
        reset_after: bool = False,
        return_sequence: bool = False,
        direction: str = "forward",
        layout: str = "zrn",
    ) -> list[MLOperand]:
        """A gated recurrent network: its last hidden state, and all of them if asked for."""
        return self._many(
            "gru",
            input,
            weight,
            recurrent_weight,
            steps,
            hidden_size,
            bias=bias,
            recurrent_bias=recurrent_bias,
            initial_hidden_state=initial_hidden_state,
            reset_after=reset_after,
            return_sequence=return_sequence,
            direction=direction,
            layout=layout,
        )

    def gru_cell(
        self,
        input: MLOperand,
        weight: MLOperand,
        recurrent_weight: MLOperand,
        hidden_state: MLOperand,
        hidden_size: int,
        bias: MLOperand | None = None,
        recurrent_bias: MLOperand | None = None,
        reset_after: bool = False,
        layout: str = "zrn",
    ) -> MLOperand:
        """One step of a gated recurrent network."""
        return self._one(
            "gru_cell",
            input,
            weight,
            recurrent_weight,
            hidden_state,
            hidden_size,
            bias=bias,
            recurrent_bias=recurrent_bias,
            reset_after=reset_after,
            layout=layout,
        )

    def lstm(
        self,
        input: MLOperand,
        weight: MLOperand,
        recurrent_weight: MLOperand,
        steps: int,
        hidden_size: int,
        bias: MLOperand | None = None,
        recurrent_bias: MLOperand | None = None,
        peephole_weight: MLOperand | None = None,
        initial_hidden_state: MLOperand | None = None,
        initial_cell_state: MLOperand | None = None,
        return_sequence: bool = False,
        direction: str = "forward",
        layout: str = "iofg",
    ) -> list[MLOperand]:
        """A long short-term memory: its last hidden and cell state, and all hidden states if asked for."""
        return self._many(
            "lstm",
            input,
            weight,
            recurrent_weight,
            steps,
            hidden_size,
            bias=bias,
            recurrent_bias=recurrent_bias,
            peephole_weight=peephole_weight,
            initial_hidden_state=initial_hidden_state,
            initial_cell_state=initial_cell_state,
            return_sequence=return_sequence,
            direction=direction,
            layout=layout,
        )

    def lstm_cell(
        self,
        input: MLOperand,
        weight: MLOperand,
        recurrent_weight: MLOperand,
        hidden_state: MLOperand,
        cell_state: MLOperand,
        hidden_size: int,
        bias: MLOperand | None = None,
        recurrent_bias: MLOperand | None = None,
        peephole_weight: MLOperand | None = None,
        layout: str = "iofg",
    ) -> list[MLOperand]:
        """One step of a long short-term memory: the hidden and the cell state."""
        return self._many(
            "lstm_cell",
            input,
            weight,
            recurrent_weight,
            hidden_state,
            cell_state,
            hidden_size,
            bias=bias,
            recurrent_bias=recurrent_bias,
            peephole_weight=peephole_weight,
            layout=layout,
        )
