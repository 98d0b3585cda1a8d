#include <criterion/criterion.h>

#include "common/metrics.h"
#include "proto/frame.h"
#include "proto/peer_metrics.h"

TestSuite(peer_metrics, .timeout = 20);

static bool told(const char *sample)
{
    struct co_buf out = {0};
    cr_assert_eq(co_metrics_render(&out), 0);
    cr_assert_eq(co_buf_append(&out, "", 1), 0);
    bool found = strstr((const char *)out.data, sample) != NULL;
    co_buf_free(&out);
    return found;
}

Test(peer_metrics, count_by_type_and_class)
{
    /* What a daemon takes has a sample from the start on; all else is "other"; an error is its
     * class.
     */
    static const unsigned types[] = {FRAME_OPEN, FRAME_GET_PAGES};
    peer_count_request(FRAME_OPEN); /* before there is a page of metrics: nobody counts */
    peer_metrics_register(types, 2);
    cr_assert(told("corallite_requests_total{type=\"OPEN\"} 0\n"));
    peer_count_request(FRAME_OPEN);
    peer_count_request(FRAME_GET_PAGES);
    peer_count_request(FRAME_GET_PAGES);
    peer_count_request(FRAME_VOTE);
    peer_count_request(65535);
    cr_assert(told("corallite_requests_total{type=\"OPEN\"} 1\n"));
    cr_assert(told("corallite_requests_total{type=\"GET_PAGES\"} 2\n"));
    cr_assert(told("corallite_requests_total{type=\"other\"} 2\n"));
    peer_count_error(CO_ERR_NOT_FOUND);
    peer_count_error(CO_ERR_LAG);
    peer_count_error(-9999);
    cr_assert(told("corallite_request_errors_total{class=\"input\"} 1\n"));
    cr_assert(told("corallite_request_errors_total{class=\"retry\"} 1\n"));
    cr_assert(told("corallite_request_errors_total{class=\"bug\"} 1\n"));
    peer_count_received(5);
    peer_count_sent(7);
    cr_assert(told("corallite_received_bytes_total 5\n"));
    cr_assert(told("corallite_sent_bytes_total 7\n"));
}
