/* Bytes on the wire and what they mean, or the status that refuses them.  Every row is parsed
 * whole, cut in two at every place, and byte by byte: the result must be the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>

#include "net/http1_trace.h"

typedef struct row {
    const char *name;
    const char *data;
    size_t len;
    const char *brief; /* as in http1_trace.h */
    size_t brief_len;
} row;

#define ROW(name, data, brief)                                                                     \
    {                                                                                              \
        name, data, sizeof(data) - 1, brief, sizeof(brief) - 1                                     \
    }
#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define EVIL "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"

/* The cases of h1spec. */
static const row h1spec_rows[] = {
    ROW("fragmented method", "G", "more"),
    ROW("fragmented URL 1", "GET ", "more"),
    ROW("fragmented URL 2", "GET /hello", "more"),
    ROW("fragmented URL 3", "GET /hello ", "more"),
    ROW("fragmented version", "GET /hello HTTP", "more"),
    ROW("fragmented request line", "GET /hello HTTP/1.1", "more"),
    ROW("fragmented newline 1", "GET /hello HTTP/1.1\r", "more"),
    ROW("fragmented newline 2", "GET /hello HTTP/1.1\r\n", "more"),
    ROW("fragmented field name", "GET /hello HTTP/1.1\r\nHos", "more"),
    ROW("fragmented value 1", "GET /hello HTTP/1.1\r\nHost:", "more"),
    ROW("fragmented value 2", "GET /hello HTTP/1.1\r\nHost: ", "more"),
    ROW("fragmented value 3", "GET /hello HTTP/1.1\r\nHost: localhost", "more"),
    ROW("fragmented value 4", "GET /hello HTTP/1.1\r\nHost: localhost\r", "more"),
    ROW("fragmented request", "GET /hello HTTP/1.1\r\nHost: localhost\r\n", "more"),
    ROW("fragmented end", "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r", "more"),
    ROW("no HTTP version", "GET / \r\n\r\n", "400"),
    ROW("Expect", GET "Expect: 100-continue\r\n\r\n", "GET /[]"),
    ROW("valid GET", GET "\r\n", "GET /[]"),
    ROW("valid GET, odd", "GET / HTTP/1.1\r\nhoSt:\texample.com\r\nempty:\r\n\r\n", "GET /[]"),
    ROW("bad header characters", GET "X-Invalid[]: test\r\n\r\n", "400"),
    ROW("Host missing", "GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", "400"),
    ROW("two Hosts", GET "Host: example.org\r\n\r\n", "400"),
    ROW("overflowing negative length", GET "Content-Length: -123456789123456789123456789\r\n\r\n",
        "400"),
    ROW("negative length", GET "Content-Length: -1234\r\n\r\n", "400"),
    ROW("length not a number", GET "Content-Length: abc\r\n\r\n", "400"),
    ROW("empty value", GET "X-Empty-Header: \r\n\r\n", "GET /[]"),
    ROW("control character", GET "X-Bad-Control-Char: test\x07\r\n\r\n", "400"),
    ROW("invalid version", "GET / HTTP/9.9\r\nHost: example.com\r\n\r\n", "505"),
    ROW("invalid prefix", "Extra lineGET / HTTP/1.1\r\nHost: example.com\r\n\r\n", "400"),
    ROW("invalid line ending", GET "\rSome-Header: Test\r\n\r\n", "400"),
    ROW("valid POST", POST "Content-Length: 5\r\n\r\nhello", "POST /[hello]"),
    ROW("TE and CL", GET "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "400"),
    ROW("CL and TE", GET "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
};

/* What the HTTP Garden found servers (s) and proxies (p) to do wrong. */
static const row garden_rows[] = {
    ROW("s1 chunk size by int()", CHUNKED "0_2e\r\n\r\n" EVIL, "POST /[ 400"),
    ROW("s2 NUL in a value", GET "Header: v\x00\ralue\r\n\r\n", "400"),
    ROW("s2 LF in a value", GET "Header: v\nalue\r\n\r\n", "400"),
    ROW("s3 blank behind a name", GET "Content-Length : 34\r\n\r\n" EVIL, "400"),
    ROW("s4 blank before the first name", "GET / HTTP/1.1\r\n\tContent-Length: 1\r\n\r\nX", "400"),
    ROW("s5 version by prefix", "GET /test HTTP/1.32\r\nHost: a\r\n\r\n", "400"),
    ROW("s6 method by prefix", "G=\":<>(e),[T];?\" /get HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("s7 target unchecked", "GET ! HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("s8 byte above 0x7F in a name",
        GET "\xEF"
            "foo: bar\r\n\r\n",
        "400"),
    ROW("s9 LF for a space", "GET /\nHTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("s10 length by int(), +", GET "Content-Length: +1_0\r\n\r\n0123456789", "400"),
    ROW("s10 length by int(), _", GET "Content-Length: 1_0\r\n\r\n0123456789", "400"),
    ROW("s11 two codings",
        POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
             "1\r\nZ\r\n0\r\n\r\n",
        "400"),
    ROW("s12 0xA0 around a coding",
        POST "Transfer-Encoding: \xA0"
             "chunked\xA0\r\n\r\n0\r\n\r\n",
        "400"),
    ROW("s13 CR as a line's end", GET "Visible: :/\rSmuggled: :)\r\n\r\n", "400"),
    ROW("s14 characters in a name", GET "\"(),/;<=>?@[/]{}: whatever\r\n\r\n", "400"),
    ROW("s14 NUL in a name",
        GET "a\x00"
            "b: whatever\r\n\r\n",
        "400"),
    ROW("s15 version unchecked", "GET / HTTP/\r\r1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("s16 empty length", GET "Content-Length: \r\n\r\n", "400"),
    ROW("s17 empty chunk size", CHUNKED "\r\n\r\n", "POST /[ 400"),
    ROW("s18 empty name", "GET / HTTP/1.1\r\n: ignored\r\nHost: whatever\r\n\r\n", "400"),
    ROW("s19 LFs before a value", GET "Useless:\n\nGET / HTTP/1.1\r\n\r\n", "400"),
    ROW("s20 0x85 behind a name", GET "Content-Length\x85: 10\r\n\r\n0123456789", "400"),
    ROW("s20 0xA0 behind a name", GET "Content-Length\xA0: 10\r\n\r\n0123456789", "400"),
    ROW("s21 ,chunked with a length",
        GET "Transfer-Encoding: ,chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400"),
    ROW("s22 chunk size by prefix", CHUNKED "1g\r\nZ\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("s23 two lengths, first smaller", GET "Content-Length: 1\r\nContent-Length: 0\r\n\r\nZ",
        "400"),
    ROW("s24 version overflow", "GET / HTTP/4294967295.255\r\nHost: a\r\n\r\n", "400"),
    ROW("s25 chunk size 0x", CHUNKED "0x0\r\n\r\n", "POST /[ 400"),
    ROW("s25 chunk size +", CHUNKED "+0\r\n\r\n", "POST /[ 400"),
    ROW("s25 chunk size -", CHUNKED "-0\r\n\r\n", "POST /[ 400"),
    ROW("s26 negative length loop", GET "Content-Length: -48\r\n\r\n", "400"),
    ROW("s27 neither name nor value", GET ":\r\nI: am chopped off\r\n\r\n", "400"),
    ROW("s28 no colon", GET "Content-Length 10\r\n\r\n0123456789", "400"),
    ROW("s29 length by prefix", GET "Content-Length: 1Z\r\n\r\nZ", "400"),
    ROW("s30 header ends in CR and any byte", GET "\rZGET /evil: HTTP/1.1\r\nHost: a\r\n\r\n",
        "400"),
    ROW("s31 chunk line ends in CR and any byte", CHUNKED "5\r\r;ABCD\r\n34\r\nE\r\n0\r\n\r\n",
        "POST /[ 400"),
    ROW("s32 length is not octal", POST "Content-Length: 010\r\n\r\n0123456789",
        "POST /[0123456789]"),
    ROW("s32 length 0x", POST "Content-Length: 0x10\r\n\r\n0123456789abcdef", "400"),
    ROW("s33 two lengths, last larger", GET "Content-Length: 0\r\nContent-Length: 1\r\n\r\nZ",
        "400"),
    ROW("s34 CR in a value", GET "Header: va\rlue\r\n\r\n", "400"),
    ROW("s35 value cut at NUL", GET "Test: test\x00THESE\r\nConnection: close\r\n\r\n", "400"),
    ROW("s36 CR in an extension", CHUNKED "4;a=b\r\rXXXX\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("s37 name over two lines",
        POST "Transfer-\r\nEncoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400"),
    ROW("s38 empty length reads on", GET "Content-Length:\r\n\r\n" EVIL, "400"),
    ROW("s39 chunked ends in CRLF and two bytes", CHUNKED "0\r\nX:POST / HTTP/1.1\r\n\r\n",
        "POST /[]"),
    ROW("s40 method and version unchecked", "\x00 / HTTP/............0596.7407.\r\n\r\n", "400"),
    ROW("s41 0x85 kept in a value",
        GET "User: \x85"
            "admin\xA0\r\n\r\n",
        "GET /[]"),
    ROW("s42 empty length before another", GET "Content-Length: \r\nContent-Length: 43\r\n\r\n",
        "400"),
    ROW("s43 NUL at a value's end", GET "Evil: evil\x00\r\n\r\n", "400"),
    ROW("s44 unknown coding as chunked", POST "Transfer-Encoding: blegh\r\n\r\n1\r\nZ\r\n0\r\n\r\n",
        "400"),
    ROW("s45 garbage behind a good request", GET "\r\nInvalid\r\n\r\n", "GET /[] 400"),
    ROW("s46 0xFF around Host",
        "POST / HTTP/1.1\r\nHost: \xFF"
        "a\xFF\r\n\r\n",
        "400"),
    ROW("s46 0xFF around a coding",
        POST "Transfer-Encoding: \xFF"
             "chunked\xFF\r\n\r\n1\r\nZ\r\n0\r\n\r\n",
        "400"),
    ROW("s47 goes on behind a bad chunk", CHUNKED "INVALID!!!\r\n" EVIL, "POST /[ 400"),
    ROW("s48 next request as a body",
        POST "Content-Length: 0\r\nConnection:keep-alive\r\nid: 0\r\n\r\n" POST
             "Content-Length: 31\r\n\r\n" EVIL GET "\r\n",
        "POST /[] POST /[GET /evil HTTP/1.1\r\nHost: a\r\n\r\n] GET /[]"),
    ROW("p1 length 0x without its body", POST "Content-Length: 0x10\r\n\r\nZ", "400"),
    ROW("p2 chunk size Z", CHUNKED "Z\r\nZZ\r\nZZZ\r\n\r\n", "POST /[ 400"),
    ROW("p3 CR before an extension", CHUNKED "2\r\r;a\r\n02\r\n41\r\n0\r\n\r\n" EVIL,
        "POST /[ 400"),
    ROW("p4 two spaces before the version", "POST /  HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("p4 chunk line ends in CR", CHUNKED "1\r0\n", "POST /[ 400"),
    ROW("p5 empty length", "GET / HTTP/1.1\r\nhost: whatever\r\ncontent-length: \r\n\r\n", "400"),
    ROW("p6 0x85 in a name", GET "Header\x85: value\r\n\r\n", "400"),
    ROW("p6 @ in a name", GET "Head@er: value\r\n\r\n", "400"),
    ROW("p7 junk behind a chunk size", CHUNKED "1these-bytes\r\nZ\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("p9 ,chunked", POST "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", "400"),
    ROW("p10 CRs in a value", GET "Invalid: this\rvalue\ris\rinvalid\r\n\r\n", "400"),
    ROW("p11 empty length first", GET "content-length: \r\ncontent-length: 59\r\n\r\n" EVIL, "400"),
    ROW("p12 NUL in Host", "GET / HTTP/1.1\r\nHost: google.com\x00.kallus.org\r\n\r\n", "400"),
    ROW("p13 LF behind a chunk", CHUNKED "a\r\n0123456789\n0\r\n\r\n", "POST /[0123456789 400"),
    ROW("p14 LF in a name", GET "Te\nst: test\r\nConnection: close\r\n\r\n", "400"),
    ROW("p15 unknown coding with a length",
        GET "Transfer-Encoding: ,chunked\r\nContent-Length: 5\r\n\r\n0r\n\r\n", "400"),
    ROW("p16 LF alone", "GET / HTTP/1.1\nHost: whatever\nConnection: close\n\n", "400"),
    ROW("p17 CRLF before the last chunk",
        CHUNKED "17\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\n\r\n0\r\n\r\n",
        "POST /[0\r\n\r\nGET / HTTP/1.1\r\n\r\n 400"),
    ROW("p18 ,chunked as no coding",
        GET "Transfer-Encoding: ,chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400"),
    ROW("p19 chunk size -0x0", CHUNKED "-0x0\r\n\r\n", "POST /[ 400"),
    ROW("p20 NUL line joined to the one before", GET "a:b\r\nc\x00\r\n\r\n", "400"),
    ROW("p21 body of a GET", GET "Content-Length: 10\r\n\r\n1234567890" GET "\r\n",
        "GET /[1234567890] GET /[]"),
    ROW("p22 two lengths, last one counts",
        POST "Content-Length: 0\r\nContent-Length: 31\r\n\r\n" EVIL, "400"),
    ROW("p23 CL and TE", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400"),
    ROW("p24 blanks before a chunk size", CHUNKED "           0\r\n\r\n", "POST /[ 400"),
    ROW("p25 two codings",
        POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
    ROW("b3 a byte behind a chunked body", CHUNKED "0\r\n\r\n\x00", "POST /[] 400"),
    ROW("HTTP/0.9", "GET /\r\n\r\n", "400"),
    ROW("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
};

static const row line_rows[] = {
    ROW("nothing", "", ""),
    ROW("an empty line first", "\r\n" GET "\r\n", "GET /[]"),
    ROW("two empty lines first", "\r\n\r\n" GET "\r\n", "400"),
    ROW("an empty line between messages", GET "\r\n\r\n" GET "\r\n", "GET /[] GET /[]"),
    ROW("the next message has begun", GET "\r\nG", "GET /[] more"),
    ROW("LF first", "\n" GET "\r\n", "400"),
    ROW("CR first", "\r" GET "\r\n", "400"),
    ROW("a blank first", " " GET "\r\n", "400"),
    ROW("TLS", "\x16\x03\x01\x02\x00\x01", "400"),
    ROW("no method", " / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("lower-case method", "get / HTTP/1.1\r\nHost: a\r\n\r\n", "get /[]"),
    ROW("method of all token characters", "!#$%&'*+-.^_`|~09Az / HTTP/1.1\r\nHost: a\r\n\r\n",
        "!#$%&'*+-.^_`|~09Az /[]"),
    ROW("method of 32", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF / HTTP/1.1\r\nHost: a\r\n\r\n",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF /[]"),
    ROW("method of 33", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\nHost: a\r\n\r\n", "501"),
    ROW("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "501"),
    ROW("tab for a space", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("a space behind the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "400"),
    ROW("a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("a fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("a byte above 0x7F", "GET /\xC3\xA9 HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("DEL in the target", "GET /\x7F HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("query", "GET /a?b=c?d HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a?b=c?d[]"),
    ROW("escapes stay", "GET /%2e%2E//x;y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%2e%2E//x;y[]"),
    ROW("relative target", "GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("query alone", "GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS *[]"),
    ROW("asterisk for GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("absolute", "GET http://h:80/p?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET /p?q[]"),
    ROW("absolute, other case", "GET HTTPS://[::1]/p HTTP/1.1\r\nHost: a\r\n\r\n", "GET /p[]"),
    ROW("absolute without a path", "GET http://h HTTP/1.1\r\nHost: a\r\n\r\n", "GET /[]"),
    ROW("absolute, query alone", "GET http://h?q/r HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?q/r[]"),
    ROW("absolute without Host", "GET http://h/ HTTP/1.1\r\n\r\n", "400"),
    ROW("absolute, no authority", "GET http:///p HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("absolute, user", "GET http://u@h/p HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("absolute, other scheme", "GET ftp://h/p HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("absolute, one slash", "GET http:/h/p HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("authority form", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "GET /[]"),
    ROW("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505"),
    ROW("HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"),
    ROW("HTTP/0.9 by name", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", "505"),
    ROW("http/1.1", "GET / http/1.1\r\nHost: a\r\n\r\n", "400"),
    ROW("HTTP/11", "GET / HTTP/11\r\nHost: a\r\n\r\n", "400"),
    ROW("HTTP/1,1", "GET / HTTP/1,1\r\nHost: a\r\n\r\n", "400"),
    ROW("HTTP/1.x", "GET / HTTP/1.x\r\nHost: a\r\n\r\n", "400"),
    ROW("ICY/1.1x", "GET / ICY/1.1x\r\nHost: a\r\n\r\n", "400"),
    ROW("CR CR LF", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", "400"),
};

static const row field_rows[] = {
    ROW("folded", GET "A: b\r\n c\r\n\r\n", "400"),
    ROW("folded by a tab", GET "A: b\r\n\tc\r\n\r\n", "400"),
    ROW("folded coding", POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400"),
    ROW("tab before a colon", GET "A\t: b\r\n\r\n", "400"),
    ROW("blank in a name", GET "A B: b\r\n\r\n", "400"),
    ROW("LF behind a value", GET "A: b\n\r\n", "400"),
    ROW("LF ends the header", GET "\n", "400"),
    ROW("CR LF LF", GET "A: b\r\n\n", "400"),
    ROW("vertical tab", GET "A: b\x0B\r\n\r\n", "400"),
    ROW("form feed before a coding",
        POST "Transfer-Encoding: \x0C"
             "chunked\r\n\r\n",
        "400"),
    ROW("DEL", GET "A: b\x7F\r\n\r\n", "400"),
    ROW("name of all token characters", GET "!#$%&'*+-.^_`|~09Az: b\r\n\r\n", "GET /[]"),
    ROW("colons in a value", GET "A::b:\r\n\r\n", "GET /[]"),
    ROW("Host empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "400"),
    ROW("Host with a port", "GET / HTTP/1.1\r\nHost: a.b-c_d~:65535\r\n\r\n", "GET /[]"),
    ROW("Host with an empty port", "GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "GET /[]"),
    ROW("Host with port 65536", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "400"),
    ROW("Host with a port 2^64", "GET / HTTP/1.1\r\nHost: a:18446744073709551616\r\n\r\n", "400"),
    ROW("Host with a signed port", "GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n", "400"),
    ROW("Host, port alone", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "400"),
    ROW("Host, IPv6", "GET / HTTP/1.1\r\nHost: [2001:db8::1.2.3.4]:80\r\n\r\n", "GET /[]"),
    ROW("Host, IPv6 open", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "400"),
    ROW("Host, IPv6 empty", "GET / HTTP/1.1\r\nHost: []\r\n\r\n", "400"),
    ROW("Host, IPv6 and junk", "GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", "400"),
    ROW("Host, IPv6 bare", "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", "400"),
    ROW("Host escaped", "GET / HTTP/1.1\r\nHost: a%2Eb\r\n\r\n", "GET /[]"),
    ROW("Host badly escaped", "GET / HTTP/1.1\r\nHost: a%2\r\n\r\n", "400"),
    ROW("Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "400"),
    ROW("Host with a path", "GET / HTTP/1.1\r\nHost: a/v1\r\n\r\n", "400"),
    ROW("Host with a query", "GET / HTTP/1.1\r\nHost: a/v1?\r\n\r\n", "400"),
    ROW("Host list", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "400"),
    ROW("Host with a blank", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"),
    ROW("Host bad in 1.0", "GET / HTTP/1.0\r\nHost: a/b\r\n\r\n", "400"),
    ROW("Host twice in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "400"),
    ROW("Host twice, the same", GET "host: a\r\n\r\n", "400"),
    ROW("length twice, the same", POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", "400"),
    ROW("length list", POST "Content-Length: 1, 1\r\n\r\nx", "400"),
    ROW("length with blanks inside", POST "Content-Length: 1 1\r\n\r\nx", "400"),
    ROW("length with blanks around", POST "Content-Length: \t 1\t \r\n\r\nx", "POST /[x]"),
    ROW("length with a point", POST "Content-Length: 1.0\r\n\r\nx", "400"),
    ROW("length in hexadecimal", POST "Content-Length: a\r\n\r\nx", "400"),
    ROW("length 0", POST "Content-Length: 0\r\n\r\n" GET "\r\n", "POST /[] GET /[]"),
    ROW("length 2^64 - 1", POST "Content-Length: 18446744073709551615\r\n\r\n", "413"),
    ROW("length 2^64", POST "Content-Length: 18446744073709551616\r\n\r\n", "400"),
    ROW("length of 30 digits", POST "Content-Length: 000000000000000000000000000001\r\n\r\nx",
        "POST /[x]"),
    ROW("length 2^65 + 5", POST "Content-Length: 36893488147419103237\r\n\r\nhello", "400"),
    ROW("length in 1.0", "POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", "POST /[x]"),
    ROW("chunked in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
    ROW("any coding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "400"),
    ROW("Chunked", POST "transfer-encodinG: CHUNKED \r\n\r\n0\r\n\r\n", "POST /[]"),
    ROW("chunked, chunked", POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "400"),
    ROW("chunked,", POST "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", "400"),
    ROW("gzip, chunked", POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"),
    ROW("chunked, gzip", POST "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "400"),
    ROW("chunked, identity", POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "400"),
    ROW("identity", POST "Transfer-Encoding: identity\r\n\r\n", "400"),
    ROW("identity with a length", POST "Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx",
        "400"),
    ROW("coding with a parameter", POST "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", "400"),
    ROW("coding in quotes", POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "400"),
    ROW("coding chunked x", POST "Transfer-Encoding: chunked x\r\n\r\n0\r\n\r\n", "400"),
    ROW("xchunked", POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400"),
    ROW("coding empty", POST "Transfer-Encoding:\r\n\r\n", "400"),
    ROW("coding with an underscore", POST "Transfer_Encoding: chunked\r\n\r\n", "POST /[]"),
    ROW("an expectation", POST "Expect: 200-ok\r\n\r\n", "417"),
    ROW("an expectation empty", POST "Expect:\r\n\r\n", "417"),
    ROW("an expectation list", POST "Expect: 100-continue, x\r\n\r\n", "417"),
    ROW("an expectation in 1.0", "POST / HTTP/1.0\r\nExpect: x\r\n\r\n", "POST /[]"),
    ROW("Upgrade", GET "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", "GET /[]"),
};

static const row chunk_rows[] = {
    ROW("no chunk", CHUNKED "0\r\n\r\n", "POST /[]"),
    ROW("chunks", CHUNKED "1\r\na\r\n00000002\r\nbc\r\n0a\r\n0123456789\r\n000\r\n\r\n",
        "POST /[abc0123456789]"),
    ROW("sizes in both cases",
        CHUNKED "A\r\n0123456789\r\nb\r\n0123456789x\r\n0\r\n\r\n" GET "\r\n",
        "POST /[01234567890123456789x] GET /[]"),
    ROW("chunk data like a chunk", CHUNKED "7\r\n0\r\n\r\n0\r\r\n0\r\n\r\n",
        "POST /[0\r\n\r\n0\r]"),
    ROW("size of 16 digits", CHUNKED "0000000000000001\r\na\r\n0\r\n\r\n", "POST /[a]"),
    ROW("size of 17 digits", CHUNKED "00000000000000001\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("size 2^64 - 1", CHUNKED "ffffffffffffffff\r\na", "POST /[ 413"),
    ROW("size 2^64 + 1", CHUNKED "10000000000000001\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("blank behind a size", CHUNKED "1 \r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("tab before a size", CHUNKED "\t1\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("LF behind a size", CHUNKED "1\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("CR behind a size", CHUNKED "1\ra\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("size with a point", CHUNKED "1.0\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("no CRLF behind a chunk", CHUNKED "1\r\nab\r\n0\r\n\r\n", "POST /[a 400"),
    ROW("CR behind a chunk", CHUNKED "1\r\na\r0\r\n\r\n", "POST /[a 400"),
    ROW("LF behind a chunk", CHUNKED "1\r\na\n0\r\n\r\n", "POST /[a 400"),
    ROW("two CRLF behind a chunk", CHUNKED "1\r\na\r\n\r\n0\r\n\r\n", "POST /[a 400"),
    ROW("the last chunk is cut", CHUNKED "1\r\na\r\n0\r\n", "POST /[a more"),
    ROW("the last CRLF is LF", CHUNKED "0\r\n\n", "POST /[ 400"),
    ROW("the last CRLF is CR x", CHUNKED "0\r\n\rx", "POST /[ 400"),
    ROW("extension", CHUNKED "1;a\r\na\r\n0;b=c;d=\"e\\\";\"\r\n\r\n", "POST /[a]"),
    ROW("extension of 256",
        CHUNKED
        "0;"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n",
        "POST /[]"),
    ROW("extension of 257",
        CHUNKED
        "0;"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n",
        "POST /[ 400"),
    ROW("extension without a name", CHUNKED "1;\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("extension without a size", CHUNKED ";a\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("extension without a value", CHUNKED "1;a=\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("extension, blank before", CHUNKED "1 ;a\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("extension, blank behind", CHUNKED "1; a\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("extension ends in LF", CHUNKED "1;a\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("extension, LF in quotes", CHUNKED "1;a=\"\n\"\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("extension, CRLF in quotes", CHUNKED "1;a=\"\r\n\"\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("extension, CR escaped", CHUNKED "1;a=\"\\\r\"\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("extension, open quotes", CHUNKED "1;a=\"b\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("extension, junk behind quotes", CHUNKED "1;a=\"b\"c\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("extension, NUL", CHUNKED "1;a=\x00\r\na\r\n0\r\n\r\n", "POST /[ 400"),
    ROW("trailers", CHUNKED "0\r\nX-Sum: 1\r\nEtag:\r\n\r\n" GET "\r\n", "POST /[] GET /[]"),
    ROW("trailer with a long name", CHUNKED "0\r\nX-Transfer-Encoding-And-More: 1\r\n\r\n",
        "POST /[]"),
    ROW("trailer that begins like another", CHUNKED "0\r\nContent-Length-More: 1\r\n\r\n",
        "POST /[]"),
    ROW("trailer Content-Length", CHUNKED "0\r\nContent-Length: 5\r\n\r\n", "POST /[ 400"),
    ROW("trailer transfer-encoding", CHUNKED "0\r\ntransfer-encoding: x\r\n\r\n", "POST /[ 400"),
    ROW("trailer Host", CHUNKED "0\r\nA: b\r\nHost: b\r\n\r\n", "POST /[ 400"),
    ROW("trailer Authorization", CHUNKED "0\r\nAuthorization: b\r\n\r\n", "POST /[ 400"),
    ROW("trailer folded", CHUNKED "0\r\nA: b\r\n c\r\n\r\n", "POST /[ 400"),
    ROW("trailer without a colon", CHUNKED "0\r\nGET / HTTP/1.1\r\n\r\n", "POST /[ 400"),
    ROW("trailer, no name", CHUNKED "0\r\n: b\r\n\r\n", "POST /[ 400"),
    ROW("trailer, LF", CHUNKED "0\r\nA: b\n\r\n", "POST /[ 400"),
    ROW("trailer, NUL", CHUNKED "0\r\nA: \x00\r\n\r\n", "POST /[ 400"),
    ROW("a body whose length is known is not looked at",
        POST "Content-Length: 6\r\n\r\n\x00\r\n\r\n\xFF" GET "\r\n",
        "POST /[\x00\r\n\r\n\xFF] GET /[]"),
};

/* pieces: at most one cut, before byte cut; every_byte: at all places. */
static void trace_row(http1_trace *t, const row *r, size_t cut, bool every_byte)
{
    vlm_http1 p;
    vlm_http1_init(&p, &vlm_http1_limits_default);
    http1_trace_init(t);
    for (size_t i = 0; i < r->len && !t->failed;) {
        const size_t n = every_byte ? 1 : i < cut ? cut - i : r->len - i;
        http1_trace_feed(t, &p, r->data + i, n);
        i += n;
    }
    http1_trace_finish(t);
    vlm_http1_fini(&p);
}

static void check_same(const row *r, const http1_trace *whole, size_t cut, bool every_byte)
{
    http1_trace t;
    trace_row(&t, r, cut, every_byte);
    if (!vlm_bytes_eq(vlm_buf_bytes(&whole->full), vlm_buf_bytes(&t.full)) ||
        !vlm_bytes_eq(vlm_buf_bytes(&whole->brief), vlm_buf_bytes(&t.brief)) ||
        whole->n_used != t.n_used)
        fail_msg("%s: cut %s%zu: %s(%zu used) instead of %s(%zu used)", r->name,
                 every_byte ? "everywhere " : "at ", cut, t.full.data, t.n_used, whole->full.data,
                 whole->n_used);
    http1_trace_fini(&t);
}

static void check_rows(const row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        http1_trace whole;
        trace_row(&whole, &rows[i], 0, false);
        const vlm_bytes expected = {.ptr = rows[i].brief, .len = rows[i].brief_len};
        if (!vlm_bytes_eq(vlm_buf_bytes(&whole.brief), expected))
            fail_msg("%s: \"%s\" instead of \"%s\"; %s", rows[i].name,
                     whole.brief.len > 0 ? whole.brief.data : "", rows[i].brief, whole.full.data);
        for (size_t cut = 1; cut < rows[i].len; cut++) check_same(&rows[i], &whole, cut, false);
        check_same(&rows[i], &whole, 0, true);
        http1_trace_fini(&whole);
    }
}

#define CHECK_ROWS(rows) check_rows(rows, sizeof(rows) / sizeof *(rows))

static void h1spec(void **state)
{
    (void)state;
    assert_int_equal(sizeof h1spec_rows / sizeof *h1spec_rows, 33);
    CHECK_ROWS(h1spec_rows);
}

static void garden(void **state)
{
    (void)state;
    assert_true(sizeof garden_rows / sizeof *garden_rows >= 77);
    CHECK_ROWS(garden_rows);
}

static void request_lines(void **state)
{
    (void)state;
    CHECK_ROWS(line_rows);
}

static void header_fields(void **state)
{
    (void)state;
    CHECK_ROWS(field_rows);
}

static void chunks(void **state)
{
    (void)state;
    CHECK_ROWS(chunk_rows);
}

/* Each byte in each kind of place: accepted exactly where the grammar has it. */
static void every_byte_in_every_place(void **state)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        const bool is_token = c != 0 && strchr(token, (int)c) != NULL;
        const bool is_visible = c > 0x20 && c < 0x7F;
        const bool is_value = is_visible || c >= 0x80 || c == ' ' || c == '\t';
        const struct {
            const char *name, *before, *after;
            bool ok;
        } places[] = {
            {"method", "G", "T / HTTP/1.1\r\nHost: a\r\n\r\n", is_token},
            {"target", "GET /", "x HTTP/1.1\r\nHost: a\r\n\r\n", is_visible && c != '#'},
            {"name", GET "a", "b: c\r\n\r\n", is_token || c == ':'},
            {"value", GET "a: b", "c\r\n\r\n", is_value},
            {"trailer name", CHUNKED "0\r\na", "b: c\r\n\r\n", is_token || c == ':'},
            {"trailer value", CHUNKED "0\r\na: b", "c\r\n\r\n", is_value},
            {"extension", CHUNKED "0;a", "b\r\n\r\n", is_token || c == '=' || c == ';'},
            {"quoted", CHUNKED "0;a=\"b", "c\"\r\n\r\n", is_value && c != '"'},
            {"chunk size", CHUNKED "0", ";b\r\n", isxdigit((int)c) != 0},
            {"version", "GET / HTTP/1.", "\r\nHost: a\r\n\r\n", c == '0' || c == '1'},
            {"length", POST "Content-Length: 0", "\r\n\r\n",
             isdigit((int)c) || c == ' ' || c == '\t'},
            {"Host", "GET / HTTP/1.1\r\nHost: a", "b\r\n\r\n",
             is_visible && strchr("\"#%,/:<>?@[\\]^`{|}", (int)c) == NULL},
        };
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            char text[128];
            http1_trace t;
            const size_t n = strlen(places[i].before), m = strlen(places[i].after);
            memcpy(text, places[i].before, n);
            text[n] = (char)c;
            memcpy(text + n + 1, places[i].after, m);
            const row r = {.name = places[i].name, .data = text, .len = n + 1 + m};
            trace_row(&t, &r, 0, false);
            if (t.failed == places[i].ok) fail_msg("%s: byte 0x%02x: %s", r.name, c, t.full.data);
            http1_trace_fini(&t);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(h1spec),        cmocka_unit_test(garden),
        cmocka_unit_test(request_lines), cmocka_unit_test(header_fields),
        cmocka_unit_test(chunks),        cmocka_unit_test(every_byte_in_every_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
