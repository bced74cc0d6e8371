#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "tensor/backend.h"
#include "tensor/dtype.h"

/* binary16 by its definition: (-1)^s 2^(e-15) (1 + f/1024), subnormal 2^-14 f/1024. */
static double half_by_definition(uint16_t bits)
{
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double sign = bits >> 15 ? -1.0 : 1.0;
    if (exponent == 31) return fraction != 0 ? (double)NAN : sign * HUGE_VAL;
    if (exponent == 0) return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, exponent - 25);
}

static void f16_widens_by_definition_and_returns(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        const uint16_t half = (uint16_t)bits;
        const double expected = half_by_definition(half);
        const float value = vlm_f16_to_f32(half);
        if (isnan(expected)) {
            assert_true(isnan(value));
            /* NaN stays NaN, with sign and payload, made quiet. */
            assert_int_equal(vlm_f32_to_f16(value), half | 0x0200);
            continue;
        }
        assert_true((double)value == expected);
        assert_int_equal(signbit(value) != 0, half >> 15);
        assert_int_equal(vlm_f32_to_f16(value), half);
    }
}

static void f16_rounds_to_nearest_even_between_all_neighbours(void **state)
{
    (void)state;
    for (uint16_t low = 0; low < 0x7bff; low++) {
        const uint16_t high = (uint16_t)(low + 1);
        const float middle = (vlm_f16_to_f32(low) + vlm_f16_to_f32(high)) / 2.0f;
        const uint16_t even = low % 2 == 0 ? low : high;
        assert_int_equal(vlm_f32_to_f16(middle), even);
        assert_int_equal(vlm_f32_to_f16(-middle), even | 0x8000);
        assert_int_equal(vlm_f32_to_f16(nextafterf(middle, 0.0f)), low);
        assert_int_equal(vlm_f32_to_f16(nextafterf(middle, INFINITY)), high);
    }
    /* Above the largest half, 65504. */
    assert_int_equal(vlm_f32_to_f16(nextafterf(65520.0f, 0.0f)), 0x7bff);
    assert_int_equal(vlm_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(vlm_f32_to_f16(-1e30f), 0xfc00);
    assert_int_equal(vlm_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(vlm_f32_to_f16(1e-40f), 0);
}

static void bf16_widens_and_rounds(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        const uint16_t half = (uint16_t)bits;
        const float value = vlm_bf16_to_f32(half);
        uint32_t wide;
        memcpy(&wide, &value, sizeof wide);
        assert_int_equal(wide, bits << 16);
        if (isnan(value)) {
            assert_int_equal(vlm_f32_to_bf16(value), half | 0x0040);
            continue;
        }
        assert_int_equal(vlm_f32_to_bf16(value), half);
        if ((half & 0x7f80) == 0x7f80) continue;
        /* The floats around the middle to the next bfloat16; infinity follows the largest. */
        for (uint32_t low = 0x7fff; low <= 0x8001; low++) {
            const uint32_t near_middle = wide + low;
            float input;
            memcpy(&input, &near_middle, sizeof input);
            const bool up = low > 0x8000 || (low == 0x8000 && half % 2 == 1);
            assert_int_equal(vlm_f32_to_bf16(input), half + up);
        }
    }
}

static void dtype_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        vlm_dtype dtype;
        size_t size;
    } rows[] = {{"F32", VLM_DTYPE_F32, 4}, {"F16", VLM_DTYPE_F16, 2}, {"BF16", VLM_DTYPE_BF16, 2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        vlm_dtype dtype = VLM_N_DTYPES;
        assert_true(vlm_dtype_parse(rows[i].name, strlen(rows[i].name), &dtype));
        assert_int_equal(dtype, rows[i].dtype);
        assert_string_equal(vlm_dtype_name(dtype), rows[i].name);
        assert_int_equal(vlm_dtype_size(dtype), rows[i].size);
    }
    static const char *const wrong[] = {"", "F", "f16", "F16 ", "F64", "BF1", "BF166", "I8"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        vlm_dtype dtype;
        assert_false(vlm_dtype_parse(wrong[i], strlen(wrong[i]), &dtype));
    }
    vlm_dtype dtype;
    assert_false(vlm_dtype_parse("F16\0", 4, &dtype));
    assert_true(vlm_dtype_parse("F16xyz", 3, &dtype));
}

static void act_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        vlm_act act;
    } rows[] = {
        {"gelu", VLM_ACT_GELU},          {"gelu_pytorch_tanh", VLM_ACT_GELU_TANH},
        {"gelu_new", VLM_ACT_GELU_TANH}, {"quick_gelu", VLM_ACT_QUICK_GELU},
        {"silu", VLM_ACT_SILU},          {"swish", VLM_ACT_SILU},
        {"relu", VLM_ACT_RELU},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        vlm_act act = VLM_N_ACTS;
        assert_true(vlm_act_parse(rows[i].name, strlen(rows[i].name), &act));
        assert_int_equal(act, rows[i].act);
    }
    for (int i = 0; i < VLM_N_ACTS; i++) {
        const char *name = vlm_act_name((vlm_act)i);
        vlm_act act;
        assert_true(vlm_act_parse(name, strlen(name), &act));
        assert_int_equal(act, i);
    }
    static const char *const wrong[] = {"", "Gelu", "gelu_", "gel", "tanh", "mish"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        vlm_act act;
        assert_false(vlm_act_parse(wrong[i], strlen(wrong[i]), &act));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_widens_by_definition_and_returns),
        cmocka_unit_test(f16_rounds_to_nearest_even_between_all_neighbours),
        cmocka_unit_test(bf16_widens_and_rounds),
        cmocka_unit_test(dtype_names),
        cmocka_unit_test(act_names),
    };
    return cmocka_run_group_tests_name("tensor/dtype", tests, NULL, NULL);
}
