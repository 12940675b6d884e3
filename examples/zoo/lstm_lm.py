"""A word language model of stacked LSTM layers (Zaremba et al. 2014, arXiv:1409.2329), the medium size.

Inputs: data [steps, batch] word numbers, lstm_state and lstm_state_cell [layers, batch, units], zero at first. Outputs:
what `logits` or `network` says, then the last state and cell, which the next part of the text starts from.
"""

import graphc as mx

shapes = {
    "data": (35, 20),
    "lstm_state": (2, 20, 650),
    "lstm_state_cell": (2, 20, 650),
    "softmax_label": (35, 20),
}


def logits(
    layers: int = 2, units: int = 650, vocabulary: int = 10000, dropout: float = 0.5
) -> tuple[mx.Symbol, mx.Symbol, mx.Symbol]:
    """A score for each word at each step, [steps * batch, vocabulary]; the last state and cell."""
    words = mx.sym.Embedding(mx.sym.Variable("data"), input_dim=vocabulary, output_dim=units, name="word")
    words = mx.sym.Dropout(words, p=dropout, name="word_drop") if dropout else words
    result, state, cell = mx.sym.RNN(
        words,
        state_size=units,
        num_layers=layers,
        mode="lstm",
        p=dropout,
        state_outputs=True,
        name="lstm",
    )
    result = mx.sym.Dropout(result, p=dropout, name="lstm_drop") if dropout else result
    flat = mx.sym.Reshape(result, shape=(-3, 0))
    scores = mx.sym.FullyConnected(flat, num_hidden=vocabulary, name="decoder")
    return scores, state, cell


def network(layers: int = 2, units: int = 650, vocabulary: int = 10000, dropout: float = 0.5) -> mx.Symbol:
    """Softmax over the words with the mean cross-entropy's gradient, [steps * batch, vocabulary]; state and cell."""
    scores, state, cell = logits(layers, units, vocabulary, dropout)
    labels = mx.sym.Reshape(mx.sym.Variable("softmax_label"), shape=(-1,))
    softmax = mx.sym.SoftmaxOutput(scores, labels, normalization="batch", name="softmax")
    return mx.sym.Group([softmax, mx.sym.BlockGrad(state), mx.sym.BlockGrad(cell)])
