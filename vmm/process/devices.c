/* SPDX-License-Identifier: Apache-2.0 */
/* devices.c - the table of a process guest's devices, in the order in which they are loaded */
#include "common/util.h"
#include "vmm/device.h"
#include "vmm/process/clock.h"
#include "vmm/process/file.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/runtime_api.h"
#include "vmm/process/signal.h"
#include "vmm/process/sock.h"
#include "vmm/process/task.h"
#include "vmm/process/vfs.h"

/* What the function may use is part of the machine. */
static int limits_save(struct proc *p, struct state_writer *w)
{
	state_put_u64(w, p->memory_bytes);
	state_put_u64(w, p->tmp_bytes);
	return w->err;
}

static int limits_load(struct proc *p, struct state_reader *r)
{
	p->memory_bytes = state_get_u64(r);
	p->tmp_bytes = state_get_u64(r);
	return r->err;
}

static int api_save(struct proc *p, struct state_writer *w)
{
	return runtime_api_save(p->api, w);
}

static int api_load(struct proc *p, struct state_reader *r)
{
	return runtime_api_load(p->api, r);
}

DEVICE_FUNCTIONS(limits)
DEVICE_FUNCTIONS(guest_clock)
DEVICE_FUNCTIONS(vfs)
DEVICE_FUNCTIONS(net)
DEVICE_FUNCTIONS(files)
DEVICE_FUNCTIONS(mm)
DEVICE_FUNCTIONS(signals)
DEVICE_FUNCTIONS(sched)
DEVICE_FUNCTIONS(api)

/* Versions count up with every change of a record; the snapshot format's version is another thing.
 */
static const struct device devices[] = {
	DEVICE("limits", 1, limits),   DEVICE("clock", 1, guest_clock),
	DEVICE("vfs", 1, vfs),	       DEVICE("net", 1, net),
	DEVICE("files", 1, files),     DEVICE("mm", 1, mm),
	DEVICE("signals", 1, signals), DEVICE("tasks", 1, sched),
	DEVICE("runtime-api", 1, api),
};

const struct device_table process_devices = {devices, ARRAY_SIZE(devices)};
