/* SPDX-License-Identifier: Apache-2.0 */
/* function_url.h - functions as HTTP endpoints */
#ifndef QUICKTHAW_SNAPD_FUNCTION_URL_H
#define QUICKTHAW_SNAPD_FUNCTION_URL_H

#include "snapd/http_api.h"

/** function_url_route() - an http_router for doors of function URLs. */
void function_url_route(struct http_request *r);

#endif
