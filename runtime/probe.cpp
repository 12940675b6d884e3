// What graphc asks of a C++ compiler, in small: an OpenMP team, and expf over a whole vector through libmvec.
// Prints the number of threads that took part and whether the sum is right.
#include <cstdio>

extern "C" __attribute__((simd("notinbranch"), const)) float expf(float);

int main(int count, char**) {
    static float x[4096];
    for (float& value : x) value = count - 1;  // 0, which the compiler cannot know
    float sum = 0.0f;
    int threads = 0;
#pragma omp parallel reduction(+ : threads)
    threads += 1;
#pragma omp parallel for simd reduction(+ : sum)
    for (int i = 0; i < 4096; ++i) sum += expf(x[i]);
    std::printf("%d %s\n", threads, sum == 4096.0f ? "right" : "wrong");
    return 0;
}
