# layer_norm: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE N
#
# graph layer_norm(
#     %x: f32[N,1024],
#     %r: f32[N,1024],
#     %gamma: f32[1024],
#     %beta: f32[1024],
#     %y: f32[N,1024],
#     %mean: f32[N],
# ) -> (%mean) {
# }

import torch
import triton
import triton.language as tl


# kernel layer_norm(
#     in x: f32[N,1024],
#     in r: f32[N,1024],
#     in gamma: f32[1024],
#     in beta: f32[1024],
#     out y: f32[N,1024],
#     out mean: f32[N],
# ) {
#   nest(i: N, j: 1024 reduce) {
#     x: f32 = load x[i, j]
#     r: f32 = load r[i, j]
#     add: f32 = add(x, r)
#     position: f32 = index 1024
#     sum: f32 = reduce sum add
#     mean: f32 = div(sum, position)
#     sub: f32 = sub(add, mean)
#     mul: f32 = mul(sub, sub)
#     sum.1: f32 = reduce sum mul
#     div: f32 = div(sum.1, position)
#     constant: f32 = constant 1e-05
#     add.1: f32 = add(div, constant)
#     rsqrt: f32 = rsqrt(add.1)
#     mul.1: f32 = mul(sub, rsqrt)
#     gamma: f32 = load gamma[j]
#     mul.2: f32 = mul(mul.1, gamma)
#     beta: f32 = load beta[j]
#     add.2: f32 = add(mul.2, beta)
#     store y[i, j] = add.2
#     store mean[i] = mean
#   }
# }
@triton.jit(do_not_specialize=["N"])
def layer_norm(
    x_ptr,
    r_ptr,
    gamma_ptr,
    beta_ptr,
    y_ptr,
    mean_ptr,
    N,
    INDEX: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    N = N.to(INDEX)
    program = tl.program_id(0).to(INDEX)
    # i < N, s < 1024 (reduced)
    i = program
    s = tl.arange(0, BLOCK_S).to(INDEX)
    x = tl.load(x_ptr + i * 1024 + s)
    r = tl.load(r_ptr + i * 1024 + s)
    add = x + r
    position = tl.cast(1024, tl.float32)
    sum = tl.sum(add, axis=0)
    mean = sum / position
    sub = add - mean
    mul = sub * sub
    sum_1 = tl.sum(mul, axis=0)
    div = sum_1 / position
    add_1 = div + (1e-05)
    rsqrt = tl.rsqrt(add_1)
    mul_1 = sub * rsqrt
    gamma = tl.load(gamma_ptr + s, eviction_policy="evict_last")
    mul_2 = mul_1 * gamma
    beta = tl.load(beta_ptr + s, eviction_policy="evict_last")
    add_2 = mul_2 + beta
    tl.store(y_ptr + i * 1024 + s, add_2)
    tl.store(mean_ptr + i, mean)


def index_type(*sizes):
    """Indices take 64 bits only where a buffer has 2**31 elements or more."""
    return tl.int64 if max(sizes) >= 2**31 else tl.int32


def run(buffers, N):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    layer_norm[(N,)](
        buffers[0],
        buffers[1],
        buffers[2],
        buffers[3],
        buffers[4],
        buffers[5],
        N,
        INDEX=index_type(1024 * N, N),
        BLOCK_S=1024,
        num_warps=4,
    )


def sizes(N):
    """(name, element type, number of elements) of every buffer."""
    return [
        ("x", torch.float32, 1024 * N),
        ("r", torch.float32, 1024 * N),
        ("gamma", torch.float32, 1024),
        ("beta", torch.float32, 1024),
        ("y", torch.float32, 1024 * N),
        ("mean", torch.float32, N),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE [SIZE ...]."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or [64]
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
