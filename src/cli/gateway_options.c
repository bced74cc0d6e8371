#include "cli/gateway_options.h"

static uint64_t nanoseconds(double seconds)
{
    return (uint64_t)(seconds * 1e9);
}

vlm_status vlm_cli_gateway_options(const vlm_options *opt, vlm_gateway_options *out, vlm_error *err)
{
    *out = (vlm_gateway_options){
        .api_key_file = opt->api_key_file,
        .cors_origin = opt->cors_origin,
        .image_hosts = opt->image_hosts,
        .image_urls = opt->image_urls == VLM_OPT_SWITCH_ON,
        .page = opt->page == VLM_OPT_SWITCH_ON,
        .cache_shared = opt->cache_scope == VLM_OPT_CACHE_SCOPE_SHARED,
        .http = {.request_line_max = opt->max_request_line,
                 .header_bytes_max = opt->max_header_bytes,
                 .header_fields_max = opt->max_header_fields,
                 .body_max = opt->max_body},
        .bodies_max = opt->max_bodies,
        .unsent_max = opt->max_unsent,
        .image_bytes_max = opt->max_image_bytes,
        .connections_max = opt->max_connections,
        .body_rate_min = opt->min_body_rate,
        .json_depth_max = opt->max_json_depth,
        .images_max = opt->max_images,
        .running_max = opt->max_running,
        .waiting_max = opt->max_waiting,
        .header_ns = nanoseconds(opt->header_timeout),
        .idle_ns = nanoseconds(opt->idle_timeout),
        .slow_ns = nanoseconds(opt->slow_reader_timeout),
        .request_ns = nanoseconds(opt->request_timeout),
        .shutdown_ns = nanoseconds(opt->shutdown_timeout),
    };
    const char *listen = opt->listen != NULL ? opt->listen : "127.0.0.1:8080";
    vlm_status status = vlm_addr_parse(listen, &out->listen, err);
    if (status == VLM_OK && out->listen.kind == VLM_ADDR_DNS)
        status = vlm_fail(err, VLM_INVALID_ARGUMENT, "dns:/// names no place to listen on");
    return status == VLM_OK ? VLM_OK : vlm_fail_prefix(err, status, "--listen");
}
