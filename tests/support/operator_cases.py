"""Applications of every operator, each with an oracle in torch: what test_against_torch.py runs."""

from support.attention_cases import attention_cases
from support.elementwise_cases import binary_cases, unary_cases
from support.network_cases import creation_cases, linear_cases, normalization_cases, spatial_cases
from support.recurrent_cases import recurrent_cases
from support.tensor_cases import indexing_cases, joining_cases, reduction_cases, shaping_cases

CASES = (
    *unary_cases(),
    *binary_cases(),
    *reduction_cases(),
    *shaping_cases(),
    *joining_cases(),
    *indexing_cases(),
    *linear_cases(),
    *spatial_cases(),
    *normalization_cases(),
    *recurrent_cases(),
    *attention_cases(),
    *creation_cases(),
)

# Tested by files of their own: their gradient is no derivative, or they are random, or keep state.
ELSEWHERE = {
    "SoftmaxOutput",
    "LinearRegressionOutput",
    "LogisticRegressionOutput",
    "MAERegressionOutput",
    "MakeLoss",
    "make_loss",
    "BlockGrad",
    "Dropout",
    "_random_uniform",
    "_random_normal",
    "BatchNorm",
}
