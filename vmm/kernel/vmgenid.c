/* SPDX-License-Identifier: Apache-2.0 */
/* vmgenid.c - the number that tells a guest that it is another clone now */
#include "vmm/kernel/vmgenid.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/kernel/layout.h"

enum { VMGENID_BYTES = 16 };

int vmgenid_renew(const struct guest_mem *mem)
{
	uint8_t id[VMGENID_BYTES];
	void *at = guest_mem_ptr(mem, (struct gpa){LAYOUT_VMGENID}, sizeof(id));

	if (!at)
		return -EINVAL;
	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return -errno;
	memcpy(at, id, sizeof(id));
	return 0;
}
