/* test_fetch_addr.c - which addresses are the open internet's, which URLs are read, which hosts a
 * list lets through. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/fetch_addr.h"

static bool is_global(const char *text)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return vlm_fetch_addr_is_global((const struct sockaddr *)&v4);
    if (inet_pton(AF_INET6, text, &v6.sin6_addr) != 1) fail_msg("%s is no address", text);
    return vlm_fetch_addr_is_global((const struct sockaddr *)&v6);
}

/* First and last address of each network of IANA's special-purpose registries, and multicast. */
static void test_special_addresses(void **state)
{
    static const char *const special[] = {
        "0.0.0.0",
        "0.0.0.1",
        "0.255.255.255",
        "10.0.0.0",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.8",
        "192.0.0.170",
        "192.0.0.255",
        "192.0.2.0",
        "192.0.2.255",
        "192.88.99.0",
        "192.88.99.255",
        "192.168.0.0",
        "192.168.1.1",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.0",
        "198.51.100.255",
        "203.0.113.0",
        "203.0.113.255",
        "224.0.0.0",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.254",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::7f00:1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:0:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b:1::1",
        "100::",
        "100::1",
        "1fff:ffff::1",
        "2001::",
        "2001::1",
        "2001:0:1::1",
        "2001:1::1",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:1ff:ffff::1",
        "2001:db8::",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        "2002::",
        "2002:7f00:1::1",
        "2002:808:808::1",
        "2620:4f:8000::1",
        "3fff::1",
        "3fff:fff::1",
        "4000::1",
        "5f00::1",
        "fc00::",
        "fd00::1",
        "fdff:ffff::1",
        "fe80::",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "feff::1",
        "ff00::",
        "ff02::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    };
    (void)state;
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        if (is_global(special[i])) fail_msg("%s is taken for global", special[i]);
}

/* Just outside of each. */
static void test_global_addresses(void **state)
{
    static const char *const global[] = {
        "1.0.0.0",
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.3.0",
        "192.88.98.255",
        "192.88.100.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "93.184.216.34",
        "2000::1",
        "2001:200::1",
        "2001:db7:ffff::1",
        "2001:db9::1",
        "2001:4860:4860::8888",
        "2003::1",
        "2606:2800:220:1:248:1893:25c8:1946",
        "2620:4f:7fff::1",
        "2620:4f:8001::1",
        "2a00:1450:4001:81b::200e",
        "3ffe::1",
        "3fff:1000::1",
    };
    (void)state;
    for (size_t i = 0; i < sizeof global / sizeof *global; i++)
        if (!is_global(global[i])) fail_msg("%s is not taken for global", global[i]);
}

static void test_other_families(void **state)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_scope_id = 3};
    const struct sockaddr local = {.sa_family = AF_UNIX};
    const struct sockaddr none = {.sa_family = AF_UNSPEC};
    (void)state;
    assert_false(vlm_fetch_addr_is_global(&local));
    assert_false(vlm_fetch_addr_is_global(&none));
    assert_int_equal(inet_pton(AF_INET6, "2606:4700::1111", &a.sin6_addr), 1);
    assert_false(vlm_fetch_addr_is_global((const struct sockaddr *)&a));
    a.sin6_scope_id = 0;
    assert_true(vlm_fetch_addr_is_global((const struct sockaddr *)&a));
}

static void test_urls(void **state)
{
    static const struct {
        const char *url, *host;
        uint16_t port;
        bool is_ipv6;
    } cases[] = {
        {"http://a.com", "a.com", 80, false},
        {"https://a.com", "a.com", 443, false},
        {"HTTPS://A.com/", "A.com", 443, false},
        {"http://a.com:80/x?y#z", "a.com", 80, false},
        {"http://a.com:443", "a.com", 443, false},
        {"http://a.com:00080/", "a.com", 80, false},
        {"http://a.com:65535/", "a.com", 65535, false},
        {"http://a.com?x@b.com", "a.com", 80, false},
        {"http://a.com#@b.com", "a.com", 80, false},
        {"http://a.com/@b.com:1/", "a.com", 80, false},
        {"http://a.com/?u=http://b.com:9/", "a.com", 80, false},
        {"http://a.com./", "a.com.", 80, false},
        {"http://xn--bcher-kva.example/", "xn--bcher-kva.example", 80, false},
        {"http://a_b-c.d/", "a_b-c.d", 80, false},
        {"http://127.0.0.1/", "127.0.0.1", 80, false},
        {"http://2130706433/", "2130706433", 80, false},
        {"http://[::1]/", "::1", 80, true},
        {"https://[2606:4700::1111]:443/", "2606:4700::1111", 443, true},
        {"http://[::ffff:1.2.3.4]/", "::ffff:1.2.3.4", 80, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vlm_fetch_target t;
        if (!vlm_fetch_target_parse(vlm_bytes_of(cases[i].url), &t))
            fail_msg("%s is refused", cases[i].url);
        assert_string_equal(t.host, cases[i].host);
        assert_int_equal(t.port, cases[i].port);
        assert_int_equal(t.is_ipv6, cases[i].is_ipv6);
    }
}

static void test_hostile_urls(void **state)
{
    static const char *const refused[] = {
        "",
        "a.com",
        "//a.com/",
        "/x",
        "x",
        "http",
        "http:",
        "http:/",
        "http://",
        "http:///",
        "http:////a.com/",
        "http:a.com",
        "http:/a.com",
        "https://?",
        "https://#",
        "http://:80/",
        "ftp://a.com/",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "data:,x",
        "gopher://a/",
        "dict://a/",
        "ldap://a/",
        "smb://a/",
        "scp://a/",
        "ws://a/",
        "javascript:alert(1)",
        "unix:///x",
        "httpx://a.com/",
        "http+unix://a/",
        " http://a.com/",
        "\thttp://a.com/",
        "http ://a.com/",
        "http://a.com /",
        "http://a.com/ x",
        "http://a.com/\tx",
        "http://a.com/\r\nHost: b",
        "http://a.com/\x7f",
        "http://a.com/\xc3\xa9",
        "http://b\xc3\xbc"
        "cher.de/",
        "http://\xe2\x93\x95"
        "oo.com/",
        "http://a.com\xef\xbc\x8f/",
        "http://u@a.com/",
        "http://u:p@a.com/",
        "http://@a.com/",
        "http://:@a.com/",
        "http://a.com@127.0.0.1/",
        "http://a.com:80@b.com/",
        "http://a.com\\@b.com/",
        "http:\\\\a.com\\",
        "http://a.com\\b",
        "http://a%2ecom/",
        "http://%61.com/",
        "http://127.0.0.1%00.a.com/",
        "http://a.com%2f@b/",
        "http://a.com:/",
        "http://a.com:0/",
        "http://a.com:65536/",
        "http://a.com:4294967376/",
        "http://a.com:-80/",
        "http://a.com:+80/",
        "http://a.com:8a/",
        "http://a.com:80:80/",
        "http://a.com: 80/",
        "http://a.com:000080/",
        "http://[::1",
        "http://::1/",
        "http://[]/",
        "http://[::1]x/",
        "http://[::1]:/",
        "http://[::1]:x/",
        "http://[::1%25lo]/",
        "http://[fe80::1%eth0]/",
        "http://[g::1]/",
        "http://[a.com]/",
        "http://[v1.x]/",
        "http://]/",
        "http://a]b/",
        "http://a[b/",
        "http://a,b/",
        "http://a;b/",
        "http://a'b/",
        "http://a\"b/",
        "http://a<b/",
        "http://a|b/",
        "http://a^b/",
        "http://a`b/",
        "http://{a}/",
        "http://a*b/",
        "http://a!b/",
        "http://$a/",
        "http://a&b/",
        "http://(a)/",
        "http://a+b/",
        "http://a=b/",
        "http://~a/",
    };
    char long_host[400] = "http://", long_url[VLM_FETCH_URL_LEN_MAX + 2] = "http://a.com/";
    vlm_fetch_target t;
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (vlm_fetch_target_parse(vlm_bytes_of(refused[i]), &t))
            fail_msg("%s is taken, host %s", refused[i], t.host);
    assert_false(vlm_fetch_target_parse((vlm_bytes){.ptr = "http://a\0b/", .len = 11}, &t));
    memset(long_host + 7, 'a', VLM_FETCH_HOST_LEN_MAX + 1);
    assert_false(vlm_fetch_target_parse(vlm_bytes_of(long_host), &t));
    long_host[7 + VLM_FETCH_HOST_LEN_MAX] = '\0';
    assert_true(vlm_fetch_target_parse(vlm_bytes_of(long_host), &t));
    memset(long_url + 13, 'x', sizeof long_url - 14);
    assert_false(vlm_fetch_target_parse(vlm_bytes_of(long_url), &t));
    long_url[VLM_FETCH_URL_LEN_MAX] = '\0';
    assert_true(vlm_fetch_target_parse(vlm_bytes_of(long_url), &t));
}

static void test_host_lists(void **state)
{
    static const struct {
        const char *host, *list;
        bool listed;
    } cases[] = {
        {"a.com", "a.com", true},
        {"A.COM", "a.com", true},
        {"a.com", "A.Com", true},
        {"x.a.com", "a.com", true},
        {"x.y.a.com", "a.com", true},
        {"a.com.", "a.com", true},
        {"a.com", "a.com.", true},
        {"b.org", "a.com,b.org", true},
        {"b.org", "a.com, b.org", true},
        {"c.b.org", "a.com,b.org", true},
        {"xa.com", "a.com", false},
        {"a.com.evil.org", "a.com", false},
        {"com", "a.com", false},
        {"a.co", "a.com", false},
        {"a.com", "x.a.com", false},
        {"a-com", "a.com", false},
        {"acom", "a.com", false},
        {".com", "a.com", false},
        {"a.comm", "a.com", false},
        {"b.or", "a.com,b.org", false},
        {"com,b.org", "a.com,b.org", false},
        {"", "a.com", false},
        {".", "a.com", false},
        {"1.2.3.4", "a.com", false},
        {"1.2.3.4", "1.2.3.4", true},
        {"::1", "a.com", false},
        {"anything", NULL, true},
        {"anything", "", true},
        {"anything", ",", false},
        {"anything", " ", false},
        {"", ",,", false},
        {"anything", ".", false},
        {"a.com", ",a.com,", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (vlm_fetch_host_listed(cases[i].host, cases[i].list) != cases[i].listed)
            fail_msg("%s, %s", cases[i].host, cases[i].list == NULL ? "NULL" : cases[i].list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_special_addresses), cmocka_unit_test(test_global_addresses),
        cmocka_unit_test(test_other_families),    cmocka_unit_test(test_urls),
        cmocka_unit_test(test_hostile_urls),      cmocka_unit_test(test_host_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
