#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# kernel_devices.bats - the devices of kernel guests as users meet them: network, vsock, disks
#
# Two TAP devices in a network namespace of this file's own, and the host between them as their
# gateway. One snapshot with all devices, of which each test makes clones.

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

bats_require_minimum_version 1.5.0
load common
load kernel

NS=${NS:-quickthaw-test-$$}

# in_net COMMAND... - in the network namespace
in_net() {
	ip netns exec "$NS" "$@"
}

# make_tap NAME ADDRESS/BITS
make_tap() {
	in_net ip tuntap add "$1" mode tap
	in_net ip addr add "$2" dev "$1"
	in_net ip link set "$1" up
}

setup_file() {
	export NS
	[ "$(id -u)" = 0 ] && [ -z "$(why_no_kernels)$(why_no_images)" ] || return 0
	ip netns add "$NS"
	in_net ip link set lo up
	in_net sysctl -q -w net.ipv4.ip_forward=1
	make_tap left 10.77.1.1/24
	make_tap right 10.77.2.1/24
	yes 'what the host wrote' | head -c 8388608 >"$BATS_FILE_TMPDIR/data"
	export -f capture_does boot_debian why_no_kernels why_no_images
	export images BIN ROOT SLOW BATS_FILE_TMPDIR BATS_TEST_DIRNAME
	in_net bash -c 'capture_does "$@"' capture --disk "$BATS_FILE_TMPDIR/data:overlay" --net left \
		--vsock "$BATS_FILE_TMPDIR/v.sock"
}

teardown_file() {
	ip netns delete "$NS" 2>/dev/null || true
}

setup() {
	require_kvm
	require_root
	require_images
	work=$BATS_TEST_TMPDIR
	overlay=overlay
}

# device_clone TAP[,...] OPTION... - a clone with all devices, as `clone` has it
device_clone() {
	local net=$1
	shift
	export -f clone
	export images BIN SLOW BATS_FILE_TMPDIR
	in_net bash -c 'clone "$@"' clone --disk "$BATS_FILE_TMPDIR/data:$overlay" --net "$net" "$@"
}

@test "two clones and the host reach each other, each by its own addresses" {
	device_clone left,mac=02:00:00:00:01:02,ip=10.77.1.2/24,gw=10.77.1.1 --hostname left \
		>"$work/left" 2>"$work/left.err" 3>&- <<-'END' &
		import hashlib, socket
		server = socket.create_server(("0.0.0.0", 7000))
		server.settimeout(60)
		stream, peer = server.accept()
		digest, count = hashlib.sha256(), 0
		while part := stream.recv(1 << 16):
		    digest.update(part)
		    count += len(part)
		stream.sendall(digest.digest())
		result = {"peer": peer[0], "bytes": count, "host": socket.gethostname(),
		          "mac": open("/sys/class/net/eth0/address").read().strip()}
	END
	run --separate-stderr device_clone right,mac=random,ip=10.77.2.2/24,gw=10.77.2.1 --hostname right <<-'END'
		import hashlib, os, socket, struct, time

		def checksum(data):
		    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
		    total = (total >> 16) + (total & 0xffff)
		    return ~(total + (total >> 16)) & 0xffff

		def ping(address):
		    """Is there an echo? As ping(8) asks for it."""
		    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
		    raw.settimeout(2)
		    body = struct.pack("!HH", 7, 1) + b"quickthaw!"
		    head = struct.pack("!BBH", 8, 0, checksum(b"\x08\x00\x00\x00" + body))
		    raw.sendto(head + body, (address, 0))
		    try:
		        return raw.recv(200)[20:21] == b"\x00"
		    except OSError:
		        return False

		def connect():
		    for _ in range(300):
		        try:
		            return socket.create_connection(("10.77.1.2", 7000), timeout=60)
		        except OSError:
		            time.sleep(0.2)
		    raise TimeoutError("the other clone does not listen")

		host = ping("10.77.2.1")
		stream = connect()
		data = os.urandom(4 << 20)
		stream.sendall(data)
		stream.shutdown(socket.SHUT_WR)
		answer = stream.recv(32, socket.MSG_WAITALL)
		result = {"gateway": host, "clone": ping("10.77.1.2"), "same": answer == hashlib.sha256(data).digest(),
		          "host": socket.gethostname(), "mac": open("/sys/class/net/eth0/address").read().strip()}
	END
	assert_success
	echo "$output" | tee "$work/right"
	jq -e '.gateway and .clone and .same and .host == "right"' "$work/right" || fail "right: $output $stderr"
	wait %1
	jq -e '.peer == "10.77.2.2" and .bytes == 4194304 and .host == "left" and
		.mac == "02:00:00:00:01:02"' "$work/left" || fail "left: $(cat "$work/left" "$work/left.err")"
	[ "$(jq -r .mac "$work/right")" != 02:00:00:00:01:02 ] || fail "both have the same MAC"
	# More bytes than a packet on a wire holds: the guest left it to the host to cut them up.
	local bytes packets
	bytes=$(in_net cat /sys/class/net/right/statistics/rx_bytes)
	packets=$(in_net cat /sys/class/net/right/statistics/rx_packets)
	[ $((bytes / packets)) -gt 1600 ] || fail "$bytes bytes in $packets packets: no offloads"
}

@test "twenty clones at once: MACs, addresses, random numbers, uuids and names of their own" {
	local i
	cat >"$work/program" <<-'END'
		import json, os, random, secrets, socket, ssl, uuid
		def read(path):
		    return open(path).read().strip()
		me = {"host": socket.gethostname(), "mac": read("/sys/class/net/eth0/address"),
		      "uuid": str(uuid.uuid4()), "urandom": os.urandom(16).hex(), "ssl": ssl.RAND_bytes(16).hex(),
		      "random": random.random(), "secrets": secrets.token_hex(16),
		      "generated": read("/proc/sys/kernel/random/uuid")}
		number = me["host"].split("-")[1]
		server = socket.create_connection((f"10.78.{number}.1", 7000), timeout=300)
		me["ip"] = server.getsockname()[0]
		server.sendall(json.dumps(me).encode() + b"\n")
		result = server.recv(3, socket.MSG_WAITALL).decode()
	END
	for ((i = 1; i <= 20; i++)); do
		make_tap "tap$i" "10.78.$i.1/24"
	done
	# None of them goes on before all of them are there. The kernel knows whose MAC an address is at.
	in_net python3 - >"$work/seen" 2>"$work/seen.err" 3>&- <<-'END' &
		import json, socket, subprocess
		server = socket.create_server(("0.0.0.0", 7000))
		server.settimeout(300)
		streams = [server.accept() for _ in range(20)]
		for stream, peer in streams:
		    stream.settimeout(300)
		    me = json.loads(stream.makefile().readline())
		    neighbour = subprocess.check_output(["ip", "-j", "neigh", "show", peer[0]])
		    print(json.dumps(me | {"peer": peer[0], "neighbour": json.loads(neighbour)[0]["lladdr"]}))
		for stream, _ in streams:
		    stream.sendall(b"all")
	END
	local server=$! clones=()
	for ((i = 1; i <= 20; i++)); do
		device_clone "tap$i,mac=random,ip=10.78.$i.2/24" --hostname "clone-$i" \
			<"$work/program" >"$work/answer-$i" 2>&1 3>&- &
		clones+=($!)
	done
	wait "$server" || fail "$(cat "$work/seen.err" "$work"/answer-*)"
	for ((i = 0; i < 20; i++)); do
		wait "${clones[i]}" || fail "clone $((i + 1)): $(cat "$work/answer-$((i + 1))")"
	done
	assert_equal "$(cat "$work"/answer-* | grep -c all)" 20
	local field
	for field in host mac ip uuid urandom ssl random secrets generated neighbour peer; do
		run jq -r ".$field" "$work/seen"
		assert_equal "$field $(sort -u <<<"$output" | grep -c .)" "$field 20"
	done
	run jq -e 'select(.mac != .neighbour or .ip != .peer or
		.ip != (.host | sub("clone-(?<n>.*)"; "10.78.\(.n).2")))' "$work/seen"
	assert_equal "$output" ""
}

@test "a MAC is kept unless a restore says otherwise; what an agent cannot set is told" {
	local kept
	run --separate-stderr device_clone left,ip=10.77.1.3/24 <<<'result = open("/sys/class/net/eth0/address").read().strip()'
	assert_success
	kept=$output
	run --separate-stderr device_clone left,mac=keep <<-'END'
		import subprocess
		result = open("/sys/class/net/eth0/address").read().strip()
	END
	assert_success
	assert_equal "$output" "$kept"
	run device_clone left,ip=10.77.1.3 </dev/null
	assert_failure
	assert_output_has "ip=10.77.1.3: give an address and the bits of its network"
}

@test "a TAP device that is gone: a restore refuses, a clone that runs sees its link go down" {
	run device_clone missing0 </dev/null
	assert_failure
	assert_output_has "missing0: there is no such TAP device"
	make_tap doomed 10.77.3.1/24
	device_clone doomed,ip=10.77.3.2/24 --vsock "$work/v.sock" >"$work/answer" 2>&1 3>&- <<-'END' &
		import socket, time
		carrier = open("/sys/class/net/eth0/carrier").read().strip()
		s = socket.socket(socket.AF_VSOCK)
		s.connect((2, 5000))
		s.recv(1)
		for _ in range(100):
		    after = open("/sys/class/net/eth0/carrier").read().strip()
		    if after == "0":
		        break
		    time.sleep(0.1)
		result = [carrier, after]
	END
	python3 - "$work/v.sock_5000" "$NS" <<-'END'
		import socket, subprocess, sys
		listener = socket.socket(socket.AF_UNIX)
		listener.bind(sys.argv[1])
		listener.listen()
		listener.settimeout(60)
		stream = listener.accept()[0]
		subprocess.run(["ip", "netns", "exec", sys.argv[2], "ip", "link", "delete", "doomed"], check=True)
		stream.sendall(b"!")
	END
	wait %1
	output=$(cat "$work/answer")
	assert_output_has '["1", "0"]' "the guest's link is down"
}

@test "vsock ends in unix sockets of the host, in both directions" {
	device_clone left --vsock "$work/v.sock" >"$work/answer" 2>&1 3>&- <<-'END' &
		import socket
		server = socket.socket(socket.AF_VSOCK)
		server.bind((socket.VMADDR_CID_ANY, 6000))
		server.listen()
		s = socket.socket(socket.AF_VSOCK)
		s.connect((2, 5001))
		s.sendall(b"the guest listens\n")
		stream = server.accept()[0]
		count = 0
		while part := stream.recv(1 << 16):
		    stream.sendall(part.upper())
		    count += len(part)
		stream.close()
		refused = socket.socket(socket.AF_VSOCK)
		try:
		    refused.connect((2, 5999))
		    error = None
		except OSError as e:
		    error = type(e).__name__
		result = {"bytes": count, "nobody": error, "word": s.recv(100).decode()}
	END
	run python3 - "$work/v.sock" <<-'END'
		import socket, sys, threading
		def stream_socket():
		    s = socket.socket(socket.AF_UNIX)
		    s.settimeout(60)
		    return s
		listener = stream_socket()
		listener.bind(sys.argv[1] + "_5001")
		listener.listen()
		guest = listener.accept()[0]
		print(guest.recv(100).decode().strip())
		wrong = stream_socket()
		wrong.connect(sys.argv[1])
		wrong.sendall(b"CONNECT 6001\n")
		print("nobody there:", wrong.recv(100))
		s = stream_socket()
		s.connect(sys.argv[1])
		s.sendall(b"CONNECT 6000\n")
		print("answer:", s.recv(100)[:3].decode())
		data = b"abcdefgh" * (1 << 16)
		sender = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
		sender.start()
		got = bytearray()
		while part := s.recv(1 << 16):
		    got += part
		print("echo:", bytes(got) == data.upper())
		guest.sendall(b"farewell")
	END
	assert_success
	assert_output_has "the guest listens" "nobody there: b''" "answer: OK" "echo: True"
	wait %1
	output=$(cat "$work/answer")
	assert_output_has '"bytes": 524288' '"word": "farewell"' "Connection"
}

@test "what clones write to an overlay is theirs alone; it can be flushed and discarded" {
	cat >"$work/use.py" <<-'END'
		import fcntl, mmap, os, struct
		disk = os.open("/dev/vdc", os.O_RDWR | os.O_DIRECT)
		page = mmap.mmap(-1, 4096)
		def read(at):
		    os.preadv(disk, [page], at)
		    return page[:]
		host = (b"what the host wrote\n" * 420000)[:8 << 20]
		before = all(read(at) == host[at:at + 4096] for at in range(0, 1 << 20, 4096))
		for at in range(0, 1 << 20, 8192):
		    page[:] = bytes([at >> 13]) * 4096
		    os.pwritev(disk, [page], at)
		os.pwritev(disk, [memoryview(page)[:512]], (1 << 20) + 512)
		os.fsync(disk)
		own = all(read(at) == bytes([at >> 13]) * 4096 and read(at + 4096) == host[at + 4096:at + 8192]
		          for at in range(0, 1 << 20, 8192))
		part = read(1 << 20)[512:1024] == b"\x7f" * 512 and page[1024:] == host[(1 << 20) + 1024:(1 << 20) + 4096]
		fcntl.ioctl(disk, 0x1277, struct.pack("QQ", 0, 65536))  # BLKDISCARD
		result = {"before": before, "own": own, "part": part, "discarded": read(8192) == bytes(4096)}
	END
	md5sum "$BATS_FILE_TMPDIR/data" >"$work/sum"
	local i
	for i in 1 2; do
		run --separate-stderr device_clone left <"$work/use.py"
		assert_success
		jq -e '.before and .own and .part and .discarded' <<<"$output" || fail "clone $i: $output"
	done
	md5sum --status -c "$work/sum" || fail "the base was written to"
}

@test "a full file system under an overlay is an error to the guest, and no more" {
	mkdir "$work/small"
	mount -t tmpfs -o size=1m tmpfs "$work/small"
	overlay=overlay=$work/small/over
	run device_clone left <<-'END'
		import mmap, os
		disk = os.open("/dev/vdc", os.O_RDWR | os.O_DIRECT)
		page = mmap.mmap(-1, 65536)
		written, error = 0, None
		for at in range(0, 4 << 20, 65536):
		    try:
		        os.pwritev(disk, [page], at)
		        written += 1
		    except OSError as e:
		        error = e.errno
		        break
		os.preadv(disk, [page], 6 << 20)
		result = {"written": written, "error": error, "reads": page[:19].decode()}
	END
	umount "$work/small"
	assert_success
	assert_output_has "no space left under the overlay" '"reads": "'
	sed -n 's/^\({.*\)/\1/p' <<<"$output" | jq -e '(.error == 28 or .error == 5) and .written > 0 and .written <= 16'
}
