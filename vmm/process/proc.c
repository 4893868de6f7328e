/* SPDX-License-Identifier: Apache-2.0 */
/* proc.c - the end of a guest, and what people read about it */
#include "vmm/process/proc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/util.h"
#include "vmm/process/exception.h"
#include "vmm/process/mm.h"
#include "vmm/process/task.h"

enum { MAPS_TEXT_MAX = 256 * 1024, LOG_LINE_MAX = 400 };

void proc_finish(struct proc *p, enum proc_end end, int code, const char *fmt, ...)
{
	va_list ap;

	if (p->end)
		return;
	p->end = end;
	p->end_code = code;
	va_start(ap, fmt);
	vsnprintf(p->end_text, sizeof(p->end_text), fmt, ap);
	va_end(ap);
}

/** struct text - a report that is cut where its room ends. */
struct text {
	char *at;
	size_t left;
};

static void text_add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void text_add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->at, t->left, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	n = MIN(n, (int)t->left - 1);
	t->at += n;
	t->left -= (size_t)n;
}

static void add_registers(struct text *t, const struct kvm_regs *r)
{
	const struct {
		const char *name;
		uint64_t value;
	} regs[] = {
		{"rip", r->rip}, {"rsp", r->rsp}, {"flg", r->rflags}, {"rax", r->rax},
		{"rbx", r->rbx}, {"rcx", r->rcx}, {"rdx", r->rdx},    {"rsi", r->rsi},
		{"rdi", r->rdi}, {"rbp", r->rbp}, {"r8 ", r->r8},     {"r9 ", r->r9},
		{"r10", r->r10}, {"r11", r->r11}, {"r12", r->r12},    {"r13", r->r13},
		{"r14", r->r14}, {"r15", r->r15},
	};

	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		text_add(t, "%s%s %016llx", i % 3 ? "  " : "\n  ", regs[i].name,
			 (unsigned long long)regs[i].value);
}

/** Whole lines of the map as far as there is room; the log has all of them. */
static void add_maps(struct text *t, char *maps)
{
	char *save = NULL;

	text_add(t, "\nmemory map:");
	for (char *line = strtok_r(maps, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		log_info("map: %.*s", LOG_LINE_MAX, line);
		if (strlen(line) + 8 < t->left)
			text_add(t, "\n  %s", line);
		else if (t->left > 5)
			text_add(t, "\n  ..."), t->left = MIN(t->left, (size_t)1);
	}
}

void fault_report(struct proc *p, enum proc_end end, int code, const char *fmt, ...)
{
	const struct kvm_regs *regs = vcpu_regs(p->vm);
	const struct task *t = task_current(p);
	struct text text = {p->end_text, sizeof(p->end_text)};
	CLEANUP_FREE char *maps = malloc(MAPS_TEXT_MAX);
	char where[256];
	va_list ap;
	int n;

	if (p->end)
		return;
	p->end = end;
	p->end_code = code;
	va_start(ap, fmt);
	n = vsnprintf(text.at, text.left, fmt, ap);
	va_end(ap);
	n = MIN(MAX(n, 0), (int)text.left - 1);
	text.at += n;
	text.left -= (size_t)n;
	if (t)
		text_add(&text, "\ntask %d \"%s\"", t->tid, t->name);
	mm_describe(p, (struct gva){regs->rip}, where, sizeof(where));
	text_add(&text, "\nrip in %s", where);
	add_registers(&text, regs);
	if (!maps)
		return;
	maps[MIN(mm_print_maps(p, maps, MAPS_TEXT_MAX - 1), (size_t)MAPS_TEXT_MAX - 1)] = '\0';
	add_maps(&text, maps);
}
