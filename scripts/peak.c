/* What one core can compute at most, with all operands in registers: the ceiling for the products of an export.

   gcc -O2 -mavx512f -mavx512vnni -mamx-tile -mamx-int8 scripts/peak.c -o peak && ./peak

   Prints operations per second (a multiplication and an addition are two) of 8-bit integers by AMX and by
   AVX512-VNNI, and of fp32 by AVX512; and how long reading the int8 weights of MiniLM-L6 takes, which every call does
   and no second-level cache holds. For x86-64 Linux with AMX; elsewhere it says what is missing.
*/
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, TURNS = 2000000, TRIES = 5, READS = 200 };
enum { WEIGHTS = 6 * 12 * 384 * 384 };  /* bytes: of each of 6 layers 4 matrices of 384 x 384 and 2 of 384 x 1536 */

struct tiles {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

static void amx(void) {
    static struct tiles shape = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) shape.row_bytes[tile] = 64, shape.rows[tile] = 16;
    __asm__ volatile("" ::: "memory");  /* gcc does not see that the next line reads the shape */
    _tile_loadconfig(&shape);
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    _tile_zero(4); _tile_zero(5); _tile_zero(6); _tile_zero(7);
    for (int turn = 0; turn < TURNS / 4; turn++) {
        _tile_dpbusd(0, 4, 6); _tile_dpbusd(1, 4, 7); _tile_dpbusd(2, 5, 6); _tile_dpbusd(3, 5, 7);
    }
    _tile_release();
}

/* Sixteen sums, so that none waits for itself; zmm16 and zmm17 are what is multiplied. */
#define INTO(op, sum) op " %%zmm16, %%zmm17, %%zmm" #sum "\n\t"
#define SIXTEEN(op)                                                                                        \
    INTO(op, 0) INTO(op, 1) INTO(op, 2) INTO(op, 3) INTO(op, 4) INTO(op, 5) INTO(op, 6) INTO(op, 7)        \
    INTO(op, 8) INTO(op, 9) INTO(op, 10) INTO(op, 11) INTO(op, 12) INTO(op, 13) INTO(op, 14) INTO(op, 15)
#define TOUCHED                                                                                            \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",      \
    "xmm12", "xmm13", "xmm14", "xmm15"

static void vnni(void) {
    for (int turn = 0; turn < TURNS; turn++) __asm__ volatile(SIXTEEN("vpdpbusd") ::: TOUCHED);
}

static void fp32(void) {
    _mm256_zeroall();  /* zeros: sums of garbage could be denormal, and slow */
    __asm__ volatile("vpxorq %%zmm16, %%zmm16, %%zmm16\n\tvpxorq %%zmm17, %%zmm17, %%zmm17" ::: "memory");
    for (int turn = 0; turn < TURNS; turn++) __asm__ volatile(SIXTEEN("vfmadd231ps") ::: TOUCHED);
}

static const char *weights;

static void reading(void) {
    for (int turn = 0; turn < READS; turn++)
        for (const char *at = weights; at < weights + WEIGHTS; at += 256)
            __asm__ volatile("vpxorq (%0), %%zmm0, %%zmm0\n\tvpxorq 64(%0), %%zmm1, %%zmm1\n\t"
                             "vpxorq 128(%0), %%zmm2, %%zmm2\n\tvpxorq 192(%0), %%zmm3, %%zmm3"
                             ::"r"(at) : "xmm0", "xmm1", "xmm2", "xmm3", "memory");
}

static double best_of(void (*work)(void)) {
    double best = 1e9;
    for (int try = 0; try < TRIES; try++) {
        double begun = seconds();
        work();
        double took = seconds() - begun;
        if (took < best) best = took;
    }
    return best;
}

static void report(const char *name, void (*work)(void), double operations) {
    printf("%-24s %7.3f TOP/s\n", name, operations / best_of(work) / 1e12);
}

static int report_reading(void) {
    char *bytes = aligned_alloc(64, WEIGHTS);
    if (!bytes) return 1;
    memset(bytes, 1, WEIGHTS);
    weights = bytes;
    double each = best_of(reading) / READS;
    printf("%-24s %7.3f ms, %.0f GB/s\n", "10.6 MB of weights read", each * 1e3, WEIGHTS / each / 1e9);
    free(bytes);
    return 0;
}

int main(void) {
    if (syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA))
        puts("no AMX on this machine");
    else
        report("int8, AMX", amx, 2.0 * 16 * 16 * 64 * TURNS);
    if (!__builtin_cpu_supports("avx512vnni")) {
        puts("no AVX512-VNNI on this machine");
        return 1;
    }
    report("int8, AVX512-VNNI", vnni, 2.0 * 64 * 16 * TURNS);
    report("fp32, AVX512", fp32, 2.0 * 16 * 16 * TURNS);
    return report_reading();
}
