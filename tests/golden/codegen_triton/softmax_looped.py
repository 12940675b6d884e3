# softmax: Triton kernels made by graphc from the graph below.
# To make this file again: graphc dump MODEL --stage source --target gpu
# To run it alone: python FILE N
#
# graph softmax(%x: f32[N,50000], %y: f32[N,50000]) -> (%y) {
# }

import torch
import triton
import triton.language as tl


@triton.jit
def greater(x, y):
    """The greater; NaN when either is."""
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


# kernel softmax_parts(
#     in x: f32[N,50000],
#     out softmax_max_parts: f32[2,N],
# ) {
#   nest(i: N, part: 2, j: 25000 reduce) {
#     x: f32 = load x[i, 25000*part + j]  // model.py:7 softmax softmax0
#     max: f32 = reduce max x  // model.py:7 softmax softmax0
#     store softmax_max_parts[part, i] = max  // model.py:7 softmax softmax0
#   }
# }
@triton.jit(do_not_specialize=["N"])
def softmax_parts(
    x_ptr,
    softmax_max_parts_ptr,
    N,
    INDEX: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    N = N.to(INDEX)
    program = tl.program_id(0).to(INDEX)
    # i < N, j < 2, r < 25000 (reduced)
    row = program
    j = row % 2
    i = row // 2
    max_partial = tl.full([BLOCK_R], float("-inf"), tl.float32)
    for r_start in range(0, 25000, BLOCK_R):
        r = r_start + tl.arange(0, BLOCK_R).to(INDEX)
        r_inside = r < 25000
        # model.py:7 softmax softmax0
        x = tl.load(x_ptr + row * 25000 + r, mask=r_inside)
        max_partial = tl.maximum(max_partial, tl.where(r_inside, x, float("-inf")), propagate_nan=tl.PropagateNan.ALL)
    max_ = tl.reduce(max_partial, 0, greater)
    tl.store(softmax_max_parts_ptr + j * N + i, max_)


# kernel softmax_combine(
#     in softmax_max_parts: f32[2,N],
#     out softmax_max_row: f32[N],
# ) {
#   nest(i: N, part: 2 reduce) {
#     max.part: f32 = load softmax_max_parts[part, i]  // model.py:7 softmax softmax0
#     max: f32 = reduce max max.part  // model.py:7 softmax softmax0
#     store softmax_max_row[i] = max  // model.py:7 softmax softmax0
#   }
# }
@triton.jit(do_not_specialize=["N"])
def softmax_combine(
    softmax_max_parts_ptr,
    softmax_max_row_ptr,
    N,
    INDEX: tl.constexpr,
    BLOCK_I: tl.constexpr,
):
    N = N.to(INDEX)
    program = tl.program_id(0).to(INDEX)
    # i < N, r < 2 (reduced)
    i = program * BLOCK_I + tl.arange(0, BLOCK_I)
    i_inside = i < N
    max_partial = tl.full([BLOCK_I], float("-inf"), tl.float32)
    for r in tl.static_range(2):
        # model.py:7 softmax softmax0
        max_part = tl.load(softmax_max_parts_ptr + r * N + i, mask=i_inside)
        max_partial = tl.maximum(max_partial, max_part, propagate_nan=tl.PropagateNan.ALL)
    max_ = max_partial
    tl.store(softmax_max_row_ptr + i, max_, mask=i_inside)


# kernel softmax_parts1(
#     in x: f32[N,50000],
#     in softmax_max_row: f32[N],
#     out softmax_sum_parts: f32[2,N],
# ) {
#   nest(i: N, part: 2, j: 25000 reduce) {
#     x: f32 = load x[i, 25000*part + j]  // model.py:7 softmax softmax0
#     max: f32 = load softmax_max_row[i]  // model.py:7 softmax softmax0
#     sub: f32 = sub(x, max)  // model.py:7 softmax softmax0
#     e: f32 = exp(sub)  // model.py:7 softmax softmax0
#     sum: f32 = reduce sum e  // model.py:7 softmax softmax0
#     store softmax_sum_parts[part, i] = sum  // model.py:7 softmax softmax0
#   }
# }
@triton.jit(do_not_specialize=["N"])
def softmax_parts1(
    x_ptr,
    softmax_max_row_ptr,
    softmax_sum_parts_ptr,
    N,
    INDEX: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    N = N.to(INDEX)
    program = tl.program_id(0).to(INDEX)
    # i < N, j < 2, r < 25000 (reduced)
    row = program
    j = row % 2
    i = row // 2
    # model.py:7 softmax softmax0
    max_ = tl.load(softmax_max_row_ptr + i)
    sum_partial = tl.full([BLOCK_R], 0.0, tl.float32)
    for r_start in range(0, 25000, BLOCK_R):
        r = r_start + tl.arange(0, BLOCK_R).to(INDEX)
        r_inside = r < 25000
        # model.py:7 softmax softmax0
        x = tl.load(x_ptr + row * 25000 + r, mask=r_inside)
        sub = x - max_
        e = tl.exp(sub)
        sum_partial = sum_partial + tl.where(r_inside, e, 0.0)
    sum = tl.sum(sum_partial, axis=0)
    tl.store(softmax_sum_parts_ptr + j * N + i, sum)


# kernel softmax_combine1(
#     in softmax_sum_parts: f32[2,N],
#     out softmax_sum_row: f32[N],
# ) {
#   nest(i: N, part: 2 reduce) {
#     sum.part: f32 = load softmax_sum_parts[part, i]  // model.py:7 softmax softmax0
#     sum: f32 = reduce sum sum.part  // model.py:7 softmax softmax0
#     store softmax_sum_row[i] = sum  // model.py:7 softmax softmax0
#   }
# }
@triton.jit(do_not_specialize=["N"])
def softmax_combine1(
    softmax_sum_parts_ptr,
    softmax_sum_row_ptr,
    N,
    INDEX: tl.constexpr,
    BLOCK_I: tl.constexpr,
):
    N = N.to(INDEX)
    program = tl.program_id(0).to(INDEX)
    # i < N, r < 2 (reduced)
    i = program * BLOCK_I + tl.arange(0, BLOCK_I)
    i_inside = i < N
    sum_partial = tl.full([BLOCK_I], 0.0, tl.float32)
    for r in tl.static_range(2):
        # model.py:7 softmax softmax0
        sum_part = tl.load(softmax_sum_parts_ptr + r * N + i, mask=i_inside)
        sum_partial = sum_partial + sum_part
    sum = sum_partial
    tl.store(softmax_sum_row_ptr + i, sum, mask=i_inside)


# kernel softmax_elements(
#     in x: f32[N,50000],
#     out y: f32[N,50000],
#     in softmax_max_row: f32[N],
#     in softmax_sum_row: f32[N],
# ) {
#   nest(i: N, j: 50000) {
#     x: f32 = load x[i, j]  // model.py:7 softmax softmax0
#     max: f32 = load softmax_max_row[i]  // model.py:7 softmax softmax0
#     sub: f32 = sub(x, max)  // model.py:7 softmax softmax0
#     e: f32 = exp(sub)  // model.py:7 softmax softmax0
#     sum: f32 = load softmax_sum_row[i]  // model.py:7 softmax softmax0
#     div: f32 = div(e, sum)  // model.py:7 softmax softmax0
#     store y[i, j] = div  // model.py:7 softmax softmax0
#   }
# }
@triton.jit(do_not_specialize=["N"])
def softmax_elements(
    x_ptr,
    y_ptr,
    softmax_max_row_ptr,
    softmax_sum_row_ptr,
    N,
    INDEX: tl.constexpr,
    BLOCK_INDEX: tl.constexpr,
):
    N = N.to(INDEX)
    program = tl.program_id(0).to(INDEX)
    # i < N, j < 50000
    index = program * BLOCK_INDEX + tl.arange(0, BLOCK_INDEX)
    index_inside = index < 50000 * N
    i = index // 50000
    # model.py:7 softmax softmax0
    x = tl.load(x_ptr + index, mask=index_inside)
    max_ = tl.load(softmax_max_row_ptr + i, mask=index_inside)
    sub = x - max_
    e = tl.exp(sub)
    sum = tl.load(softmax_sum_row_ptr + i, mask=index_inside)
    div = e / sum
    tl.store(y_ptr + index, div, mask=index_inside)


def index_type(*sizes):
    """Indices take 64 bits only where a buffer has 2**31 elements or more."""
    return tl.int64 if max(sizes) >= 2**31 else tl.int32


def run(buffers, N):
    """Launch every kernel in order; `buffers` are flat tensors in the order of `sizes`."""
    softmax_parts[((2 * N),)](
        buffers[0],
        buffers[2],
        N,
        INDEX=index_type(50000 * N, 2 * N),
        BLOCK_R=4096,
        num_warps=16,
    )
    softmax_combine[(triton.cdiv(N, 256),)](
        buffers[2],
        buffers[3],
        N,
        INDEX=index_type(2 * N, N),
        BLOCK_I=256,
        num_warps=4,
    )
    softmax_parts1[((2 * N),)](
        buffers[0],
        buffers[3],
        buffers[4],
        N,
        INDEX=index_type(50000 * N, N, 2 * N),
        BLOCK_R=4096,
        num_warps=16,
    )
    softmax_combine1[(triton.cdiv(N, 256),)](
        buffers[4],
        buffers[5],
        N,
        INDEX=index_type(2 * N, N),
        BLOCK_I=256,
        num_warps=4,
    )
    softmax_elements[(triton.cdiv(50000 * N, 1024),)](
        buffers[0],
        buffers[1],
        buffers[3],
        buffers[5],
        N,
        INDEX=index_type(50000 * N, N),
        BLOCK_INDEX=1024,
        num_warps=4,
    )


def sizes(N):
    """(name, element type, number of elements) of every buffer."""
    return [
        ("x", torch.float32, 50000 * N),
        ("y", torch.float32, 50000 * N),
        ("softmax_max_parts.2", torch.float32, 2 * N),
        ("softmax_max_row.3", torch.float32, N),
        ("softmax_sum_parts.4", torch.float32, 2 * N),
        ("softmax_sum_row.5", torch.float32, N),
    ]


def main():
    """Run on zeros and print the time a run takes: python FILE [SIZE ...]."""
    import sys

    values = [int(value) for value in sys.argv[1:]] or [64]
    buffers = [torch.zeros(size, dtype=dtype, device="cuda") for _, dtype, size in sizes(*values)]
    print(f"{triton.testing.do_bench(lambda: run(buffers, *values)):.4f} ms")


if __name__ == "__main__":
    main()
