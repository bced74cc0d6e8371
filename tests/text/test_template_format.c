/* test_template_format.c - numbers and texts through str.format and %, as Python writes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text/template.h"

static void formats(void **state)
{
    (void)state;
    /* The expected texts are CPython's. */
    static const struct {
        const char *source, *want;
    } cases[] = {
        {"{{ '{:>5.2f}'.format(1.234) }}", " 1.23"},
        {"{{ '{:5}|'.format(7) }}", "    7|"},
        {"{{ '{:<6}|'.format('ab') }}", "ab    |"},
        {"{{ '{:^7}|'.format('ab') }}", "  ab   |"},
        {"{{ '{:*>6}'.format('x') }}", "*****x"},
        {"{{ '{:06.1f}'.format(3.14159) }}", "0003.1"},
        {"{{ '{:+d}'.format(5) }}", "+5"},
        {"{{ '{: d}'.format(5) }}", " 5"},
        {"{{ '{:,}'.format(1234567) }}", "1,234,567"},
        {"{{ '{:x}'.format(255) }}", "ff"},
        {"{{ '{:X}'.format(255) }}", "FF"},
        {"{{ '{:#x}'.format(255) }}", "0xff"},
        {"{{ '{:o}'.format(8) }}", "10"},
        {"{{ '{:e}'.format(12345.678) }}", "1.234568e+04"},
        {"{{ '{:.3e}'.format(0.00012) }}", "1.200e-04"},
        {"{{ '{:g}'.format(1e-05) }}", "1e-05"},
        {"{{ '{:.3g}'.format(1234.5) }}", "1.23e+03"},
        {"{{ '{:%}'.format(0.25) }}", "25.000000%"},
        {"{{ '{:.1%}'.format(0.256) }}", "25.6%"},
        {"{{ '{:s}'.format('q') }}", "q"},
        {"{{ '{:.2}'.format('abc') }}", "ab"},
        {"{{ '{0}{1}{0}'.format('a', 'b') }}", "aba"},
        {"{{ '{{}}{}'.format(1) }}", "{}1"},
        {"{{ '{!r}'.format('a') }}", "'a'"},
        {"{{ '{:.0f}'.format(2.5) }}", "2"},
        {"{{ '{:10.3f}|'.format(-2.0005) }}", "    -2.001|"},
        {"{{ '%5.2f' % (1.234, ) }}", " 1.23"},
        {"{{ '%-6s|' % ('ab', ) }}", "ab    |"},
        {"{{ '%06d' % (42, ) }}", "000042"},
        {"{{ '%+d' % (5, ) }}", "+5"},
        {"{{ '%x' % (255, ) }}", "ff"},
        {"{{ '%%' % (()) }}", "%"},
        {"{{ '%s' % (1.0, ) }}", "1.0"},
        {"{{ '%r' % ('a', ) }}", "'a'"},
        {"{{ '%.3s' % ('abcdef', ) }}", "abc"},
        {"{{ '%c' % ('z', ) }}", "z"},
        {"{{ '%e' % (12345.678, ) }}", "1.234568e+04"},
        {"{{ '%g' % (100000.0, ) }}", "100000"},
        {"{{ '%5d|%-5d|' % (3, 4, ) }}", "    3|4    |"},
        {"{{ '%i' % (3, ) }}", "3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vlm_template *t;
        vlm_buf out;
        vlm_error err = {0};
        vlm_buf_init(&out, 4096);
        vlm_status status =
            vlm_template_new(vlm_bytes_of(cases[i].source), &vlm_template_limits_default, &t, &err);
        if (status == VLM_OK) status = vlm_template_render(t, NULL, 0, &out, NULL, &err);
        if (status != VLM_OK) fail_msg("%s: %s", cases[i].source, err.msg);
        assert_string_equal(out.data, cases[i].want);
        vlm_template_free(t);
        vlm_buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(formats)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
