/* SPDX-License-Identifier: Apache-2.0 */
/* test_elf.c - program files, good and hostile, and the stack a program starts with */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/util.h"
#include "include/guest_abi.h"
#include "vmm/process/elf.h"
#include "vmm/process/exec_stack.h"

enum { FILE_BYTES = 8192, PHDRS = 4 };

/** struct small_elf - a program of two segments, an interpreter name and a stack record. */
struct small_elf {
	Elf64_Ehdr h;
	Elf64_Phdr ph[PHDRS];
	char interp[16];
	uint8_t rest[FILE_BYTES - sizeof(Elf64_Ehdr) - PHDRS * sizeof(Elf64_Phdr) - 16];
};

static const struct small_elf good = {
	.h =
		{
			.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_version = EV_CURRENT,
			.e_entry = 0x401000,
			.e_phoff = sizeof(Elf64_Ehdr),
			.e_ehsize = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = PHDRS,
		},
	.ph =
		{
			{.p_type = PT_LOAD,
			 .p_flags = PF_R | PF_X,
			 .p_vaddr = 0x400000,
			 .p_filesz = 0x1800,
			 .p_memsz = 0x1800,
			 .p_align = 0x1000},
			{.p_type = PT_LOAD,
			 .p_flags = PF_R | PF_W,
			 .p_vaddr = 0x402800,
			 .p_offset = 0x1800,
			 .p_filesz = 0x100,
			 .p_memsz = 0x5000,
			 .p_align = 0x200000},
			{.p_type = PT_INTERP,
			 .p_offset = offsetof(struct small_elf, interp),
			 .p_filesz = 9},
			{.p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W},
		},
	.interp = "/lib/ld1",
};

struct bytes {
	const uint8_t *data;
	size_t n;
};

static int64_t read_bytes(void *arg, void *buf, size_t n, uint64_t offset)
{
	const struct bytes *b = arg;

	if (offset >= b->n)
		return 0;
	n = MIN(n, b->n - (size_t)offset);
	memcpy(buf, b->data + offset, n);
	return (int64_t)n;
}

static int parse(const void *data, size_t n, struct elf_image *ret, const char **why)
{
	struct bytes b = {data, n};

	*why = NULL;
	return elf_parse(read_bytes, &b, ret, why);
}

static void test_good(void **state)
{
	struct elf_image e;
	const char *why;

	(void)state;
	assert_int_equal(parse(&good, sizeof(good), &e, &why), 0);
	assert_false(e.pie);
	assert_false(e.exec_stack);
	assert_int_equal(e.entry, 0x401000);
	assert_int_equal(e.low, 0x400000);
	assert_int_equal(e.high, 0x408000);
	assert_int_equal(e.align, 0x200000);
	assert_int_equal(e.phdr_vaddr, 0x400000 + sizeof(Elf64_Ehdr));
	assert_int_equal(e.phdr_count, PHDRS);
	assert_int_equal(e.segment_count, 2);
	assert_int_equal(e.segments[0].prot, PROT_READ | PROT_EXEC);
	assert_int_equal(e.segments[1].prot, PROT_READ | PROT_WRITE);
	assert_string_equal(e.interp, "/lib/ld1");
}

/* The program that runs this test is one, too. */
static void test_real_program(void **state)
{
	struct elf_image e;
	const char *why;
	char *data;
	size_t n;

	(void)state;
	assert_int_equal(read_file(AT_FDCWD, "/proc/self/exe", 64 << 20, &data, &n), 0);
	assert_int_equal(parse(data, n, &e, &why), 0);
	assert_true(e.segment_count >= 2);
	assert_string_equal(e.interp, "/lib64/ld-linux-x86-64.so.2");
	free(data);
}

static void expect_refused(const struct small_elf *file, const char *part)
{
	struct elf_image e;
	const char *why;

	assert_int_equal(parse(file, sizeof(*file), &e, &why), -ENOEXEC);
	assert_non_null(why);
	if (!strstr(why, part))
		fail_msg("\"%s\" does not say \"%s\"", why, part);
}

static void test_foreign(void **state)
{
	struct small_elf f = good;

	(void)state;
	f.h.e_machine = EM_386;
	f.h.e_ident[EI_CLASS] = ELFCLASS32;
	expect_refused(&f, "32-bit");
	f = good;
	f.h.e_machine = EM_AARCH64;
	expect_refused(&f, "ARM64");
	f = good;
	f.h.e_ident[EI_CLASS] = ELFCLASS32;
	expect_refused(&f, "x32");
	f = good;
	f.h.e_ident[EI_DATA] = ELFDATA2MSB;
	expect_refused(&f, "big-endian");
	f = good;
	f.h.e_type = ET_REL;
	expect_refused(&f, "not a program");
	f = good;
	f.h.e_ident[0] = 'M';
	expect_refused(&f, "neither");
}

static void test_damaged(void **state)
{
	struct small_elf f = good;

	(void)state;
	f.h.e_phnum = 0;
	expect_refused(&f, "program headers");
	f = good;
	f.h.e_phentsize = 32;
	expect_refused(&f, "program headers");
	f = good;
	f.h.e_phoff = UINT64_MAX - 10;
	expect_refused(&f, "cut short");
	f = good;
	f.ph[1].p_vaddr = UINT64_MAX - 100;
	expect_refused(&f, "out of range");
	f = good;
	f.ph[1].p_memsz = UINT64_MAX;
	expect_refused(&f, "out of range");
	f = good;
	f.ph[1].p_filesz = f.ph[1].p_memsz + 1;
	expect_refused(&f, "out of range");
	f = good;
	f.ph[1].p_offset = INT64_MAX & ~0xfffull;
	expect_refused(&f, "out of range");
	f = good;
	f.ph[1].p_offset++;
	expect_refused(&f, "cannot be mapped");
	f = good;
	f.ph[1].p_vaddr = 0x400800;
	expect_refused(&f, "overlap");
	f = good;
	f.ph[0].p_type = f.ph[1].p_type = PT_NULL;
	expect_refused(&f, "nothing to load");
	f = good;
	f.h.e_entry = 0x12345;
	expect_refused(&f, "entry point");
	f = good;
	f.ph[2].p_filesz = 3; /* not terminated */
	expect_refused(&f, "interpreter name");
	f = good;
	f.ph[2].p_offset = FILE_BYTES - 4;
	expect_refused(&f, "interpreter name");
}

/** What a loader relies on. */
static void check_image(const struct elf_image *e)
{
	uint64_t last = e->low;

	assert_true(e->segment_count >= 1 && e->segment_count <= ELF_SEGMENTS_MAX);
	for (uint32_t i = 0; i < e->segment_count; i++) {
		const struct elf_segment *s = &e->segments[i];

		assert_true(s->vaddr >= last && s->file_bytes <= s->mem_bytes);
		assert_true(!s->file_bytes || (s->vaddr - s->offset) % PAGE_BYTES == 0);
		last = s->vaddr + s->mem_bytes;
		assert_true(last >= s->vaddr && last <= e->high);
	}
	assert_true(e->high <= GUEST_USER_GVA_MAX);
	assert_true(e->entry >= e->low && e->entry < e->high);
	assert_true(e->pie || e->low >= GUEST_USER_GVA_MIN);
	assert_non_null(memchr(e->interp, 0, sizeof(e->interp)));
}

static void test_every_bit(void **state)
{
	struct small_elf f = good;
	uint8_t *bytes = (uint8_t *)&f;
	struct elf_image e;
	const char *why;

	(void)state;
	for (size_t i = 0; i < offsetof(struct small_elf, rest); i++) {
		for (int bit = 0; bit < 8; bit++) {
			bytes[i] ^= (uint8_t)(1 << bit);
			if (!parse(&f, sizeof(f), &e, &why))
				check_image(&e);
			else
				assert_non_null(why);
			bytes[i] ^= (uint8_t)(1 << bit);
		}
	}
	for (size_t n = 0; n < offsetof(struct small_elf, rest); n++)
		if (!parse(&f, n, &e, &why))
			check_image(&e);
}

/* ---- the stack ------------------------------------------------------------------------------ */

static uint64_t word_at(const struct exec_stack *s, uint64_t at)
{
	uint64_t word;

	assert_true(at >= s->sp && at - s->sp + 8 <= s->bytes);
	memcpy(&word, s->image + (at - s->sp), sizeof(word));
	return word;
}

static const char *string_at(const struct exec_stack *s, uint64_t at)
{
	assert_true(at >= s->sp && at - s->sp < s->bytes);
	return (const char *)s->image + (at - s->sp);
}

/* As a program's start code walks it. */
static void test_stack(void **state)
{
	char program[] = "prog", arg[] = "an argument", home[] = "HOME=/", empty[] = "E=";
	char *argv[] = {program, arg}, *envp[] = {home, empty, NULL};
	struct exec_stack s = {.argv = argv, .argc = 2, .envp = envp, .name = "/bin/prog"};
	const uint64_t top = 0x7fff0000;
	uint64_t at, execfn = 0, random_at = 0, pagesz = 0;

	(void)state;
	exec_stack_aux(&s, AT_PAGESZ, 4096);
	exec_stack_ids(&s);
	assert_int_equal(exec_stack_build(&s, top, 65536), 0);
	assert_int_equal(s.sp % 16, 0);
	assert_int_equal(s.sp + s.bytes, top);
	assert_int_equal(word_at(&s, s.sp), 2);
	assert_string_equal(string_at(&s, word_at(&s, s.sp + 8)), "prog");
	assert_string_equal(string_at(&s, word_at(&s, s.sp + 16)), "an argument");
	assert_int_equal(word_at(&s, s.sp + 24), 0);
	assert_string_equal(string_at(&s, word_at(&s, s.sp + 32)), "HOME=/");
	assert_string_equal(string_at(&s, word_at(&s, s.sp + 40)), "E=");
	assert_int_equal(word_at(&s, s.sp + 48), 0);
	for (at = s.sp + 56; word_at(&s, at) != AT_NULL; at += 16) {
		uint64_t value = word_at(&s, at + 8);

		switch (word_at(&s, at)) {
		case AT_EXECFN:
			execfn = value;
			break;
		case AT_RANDOM:
			random_at = value;
			break;
		case AT_PAGESZ:
			pagesz = value;
			break;
		default:
			break;
		}
	}
	assert_string_equal(string_at(&s, execfn), "/bin/prog");
	assert_int_equal(pagesz, 4096);
	assert_true(word_at(&s, random_at) != 0);
	assert_string_equal(string_at(&s, s.arg_start), "prog");
	assert_int_equal(s.env_start - s.arg_start, sizeof("prog") + sizeof("an argument"));
	assert_string_equal(string_at(&s, s.env_start), "HOME=/");
	free(s.image);
}

static void test_stack_too_big(void **state)
{
	char *big = malloc(200000), *argv[] = {big}, *envp[] = {NULL};
	struct exec_stack s = {.argv = argv, .argc = 1, .envp = envp, .name = "x"};

	(void)state;
	assert_non_null(big);
	memset(big, 'a', 199999);
	big[199999] = '\0';
	assert_int_equal(exec_stack_build(&s, 0x7fff0000, 1 << 20), -E2BIG);
	big[3000] = '\0';
	assert_int_equal(exec_stack_build(&s, 0x7fff0000, 2000), -E2BIG);
	assert_null(s.image);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),	      cmocka_unit_test(test_real_program),
		cmocka_unit_test(test_foreign),	      cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_every_bit),     cmocka_unit_test(test_stack),
		cmocka_unit_test(test_stack_too_big),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
