# sgd: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE N
#
# graph sgd(
#     %lr: f32[],
#     %w0: f32[100352],
#     %g0: f32[100352],
#     %m0: f32[100352],
#     %w1: f32[128],
#     %g1: f32[128],
#     %m1: f32[128],
#     %w2: f32[N],
#     %g2: f32[N],
#     %m2: f32[N],
# ) -> (%m2) {
# }

import torch
import triton
import triton.language as tl


@triton.jit
def sgd__0(
    program,
    g0_ptr,
    lr_ptr,
    m0_ptr,
    w0_ptr,
    N,
    INDEX: tl.constexpr,
    BLOCK_I: tl.constexpr,
):
    # i < 100352
    i = program * BLOCK_I + tl.arange(0, BLOCK_I)
    g0 = tl.load(g0_ptr + i)
    lr = tl.load(lr_ptr)
    mul = g0 * lr
    m0 = tl.load(m0_ptr + i)
    mul_1 = m0 * 0.9
    sub = mul_1 - mul
    tl.store(m0_ptr + i, sub)
    w0 = tl.load(w0_ptr + i)
    add = w0 + sub
    tl.store(w0_ptr + i, add)


@triton.jit
def sgd__1(
    program,
    g1_ptr,
    lr_ptr,
    m1_ptr,
    w1_ptr,
    N,
    INDEX: tl.constexpr,
    BLOCK_I: tl.constexpr,
):
    # i < 128
    i = program * BLOCK_I + tl.arange(0, BLOCK_I)
    g1 = tl.load(g1_ptr + i)
    lr = tl.load(lr_ptr)
    mul = g1 * lr
    m1 = tl.load(m1_ptr + i)
    mul_1 = m1 * 0.9
    sub = mul_1 - mul
    tl.store(m1_ptr + i, sub)
    w1 = tl.load(w1_ptr + i)
    add = w1 + sub
    tl.store(w1_ptr + i, add)


@triton.jit
def sgd__2(
    program,
    g2_ptr,
    lr_ptr,
    m2_ptr,
    w2_ptr,
    N,
    INDEX: tl.constexpr,
    BLOCK_I: tl.constexpr,
):
    # i < N
    i = program * BLOCK_I + tl.arange(0, BLOCK_I)
    i_inside = i < N
    g2 = tl.load(g2_ptr + i, mask=i_inside)
    lr = tl.load(lr_ptr)
    mul = g2 * lr
    m2 = tl.load(m2_ptr + i, mask=i_inside)
    mul_1 = m2 * 0.9
    sub = mul_1 - mul
    tl.store(m2_ptr + i, sub, mask=i_inside)
    w2 = tl.load(w2_ptr + i, mask=i_inside)
    add = w2 + sub
    tl.store(w2_ptr + i, add, mask=i_inside)


# kernel sgd(
#     in lr: f32[],
#     inout w0: f32[100352],
#     in g0: f32[100352],
#     inout m0: f32[100352],
#     inout w1: f32[128],
#     in g1: f32[128],
#     inout m1: f32[128],
#     inout w2: f32[N],
#     in g2: f32[N],
#     inout m2: f32[N],
# ) {
#   nest(i: 100352) {
#     g0: f32 = load g0[i]
#     lr: f32 = load lr[]
#     mul: f32 = mul(g0, lr)
#     m0: f32 = load m0[i]
#     constant: f32 = constant 0.9
#     mul.1: f32 = mul(m0, constant)
#     sub: f32 = sub(mul.1, mul)
#     store m0[i] = sub
#     w0: f32 = load w0[i]
#     add: f32 = add(w0, sub)
#     store w0[i] = add
#   }
#   nest(i: 128) {
#     g1: f32 = load g1[i]
#     lr: f32 = load lr[]
#     mul: f32 = mul(g1, lr)
#     m1: f32 = load m1[i]
#     constant: f32 = constant 0.9
#     mul.1: f32 = mul(m1, constant)
#     sub: f32 = sub(mul.1, mul)
#     store m1[i] = sub
#     w1: f32 = load w1[i]
#     add: f32 = add(w1, sub)
#     store w1[i] = add
#   }
#   nest(i: N) {
#     g2: f32 = load g2[i]
#     lr: f32 = load lr[]
#     mul: f32 = mul(g2, lr)
#     m2: f32 = load m2[i]
#     constant: f32 = constant 0.9
#     mul.1: f32 = mul(m2, constant)
#     sub: f32 = sub(mul.1, mul)
#     store m2[i] = sub
#     w2: f32 = load w2[i]
#     add: f32 = add(w2, sub)
#     store w2[i] = add
#   }
# }
@triton.jit(do_not_specialize=["N"])
def sgd(
    lr_ptr,
    w0_ptr,
    g0_ptr,
    m0_ptr,
    w1_ptr,
    g1_ptr,
    m1_ptr,
    w2_ptr,
    g2_ptr,
    m2_ptr,
    N,
    INDEX: tl.constexpr,
    BLOCK_1024: tl.constexpr,
    BLOCK_128: tl.constexpr,
    BLOCK_256: tl.constexpr,
):
    N = N.to(INDEX)
    program = tl.program_id(0).to(INDEX)
    first = program * 0
    end = first + tl.cdiv(100352, BLOCK_1024)
    if (program >= first) & (program < end):
        sgd__0(program - first, g0_ptr, lr_ptr, m0_ptr, w0_ptr, N, INDEX, BLOCK_1024)
    first = end
    end = first + tl.cdiv(128, BLOCK_128)
    if (program >= first) & (program < end):
        sgd__1(program - first, g1_ptr, lr_ptr, m1_ptr, w1_ptr, N, INDEX, BLOCK_128)
    first = end
    end = first + tl.cdiv(N, BLOCK_256)
    if (program >= first) & (program < end):
        sgd__2(program - first, g2_ptr, lr_ptr, m2_ptr, w2_ptr, N, INDEX, BLOCK_256)
    first = end


def index_type(*sizes):
    """Indices take 64 bits only where a buffer has 2**31 elements or more."""
    return tl.int64 if max(sizes) >= 2**31 else tl.int32


def run(buffers, N):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    sgd[(98 + 1 + triton.cdiv(N, 256),)](
        buffers[0],
        buffers[1],
        buffers[2],
        buffers[3],
        buffers[4],
        buffers[5],
        buffers[6],
        buffers[7],
        buffers[8],
        buffers[9],
        N,
        INDEX=index_type(N),
        BLOCK_1024=1024,
        BLOCK_128=128,
        BLOCK_256=256,
        num_warps=4,
    )


def sizes(N):
    """(name, element type, number of elements) of every buffer."""
    return [
        ("lr", torch.float32, 1),
        ("w0", torch.float32, 100352),
        ("g0", torch.float32, 100352),
        ("m0", torch.float32, 100352),
        ("w1", torch.float32, 128),
        ("g1", torch.float32, 128),
        ("m1", torch.float32, 128),
        ("w2", torch.float32, N),
        ("g2", torch.float32, N),
        ("m2", torch.float32, N),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE [SIZE ...]."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or [64]
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
