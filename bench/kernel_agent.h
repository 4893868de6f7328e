/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_agent.h - this process in the vmm's place: the agent's other end, and the Runtime API's
 *
 * For systems that carry the guest's two streams to this process. All functions return 0 or -errno,
 * explained on stderr, and wait for as long as kernel_guest_connect() has set.
 */
#ifndef QUICKTHAW_BENCH_KERNEL_AGENT_H
#define QUICKTHAW_BENCH_KERNEL_AGENT_H

#include "bench/kernel_guest.h"

/** kernel_agent_await_ready() - until the agent says READY. */
int kernel_agent_await_ready(struct kernel_guest *g);
/** kernel_agent_start() - start the Python bootstrap on app.handler of /var/task. @retry: run it
 * again when its connection breaks, which a restore does to it in some systems */
int kernel_agent_start(struct kernel_guest *g, bool retry);
/** kernel_agent_prepare() - what comes before a capture. */
int kernel_agent_prepare(struct kernel_guest *g);
/** kernel_agent_resume() - what comes after a restore, before anything is invoked. */
int kernel_agent_resume(struct kernel_guest *g);

/** kernel_api_await_next() - until the runtime asks for work. */
int kernel_api_await_next(struct kernel_guest *g);
/** kernel_api_invoke() - answer the request for work that waits, and wait for the response. */
int kernel_api_invoke(struct kernel_guest *g, const char *event);

#endif
