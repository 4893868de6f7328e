#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# package.bats - the Debian package: what lintian says of it, and that what it holds works; no KVM
#
# The package is built and unpacked once, and never installed on this machine.

# shellcheck disable=SC2154 # bats sets status, output, lines and stderr

load common

setup_file() {
	cd "$ROOT" || return
	for command in dpkg-buildpackage dh lintian; do
		has_command "$command" || {
			echo "$command is not here: run scripts/setup service" >&2
			return 1
		}
	done
	DEB=$ROOT/$(scripts/deb) || return
	TREE=$BATS_FILE_TMPDIR/tree
	dpkg-deb -x "$DEB" "$TREE" || return
	export DEB TREE
}

# offers LINE - what bash would offer, with the package's programs and completions
offers() {
	run env PATH="$TREE/usr/bin:$TREE/usr/libexec/quickthaw:$PATH" \
		"$ROOT/tests/functional/complete.bash" "$TREE/usr/share/bash-completion" "$1"
	assert_success
}

@test "lintian finds no error in the package, nor anything to warn of" {
	run lintian --allow-root --fail-on error,warning "$DEB"
	assert_success
}

@test "the package is of the version that its programs tell, which is that of the file VERSION" {
	local version program
	version=$(cat "$ROOT/VERSION")
	assert_equal "$(dpkg-deb -f "$DEB" Version)" "$version"
	for program in snapd snapctl snapshot bench ../libexec/quickthaw/{vmm,unpacker}; do
		run "$TREE/usr/bin/$program" --version
		assert_success
		assert_equal "$output" "$(basename "$program") (Quickthaw) $version"
		run "$TREE/usr/bin/$program" --help
		assert_success
		[[ ${output,,} == usage:* ]] || fail "$program --help does not begin with its usage"
	done
}

@test "the package's snapd finds its vmm and its bootstraps where the package has them" {
	# It gets past looking for them, up to a state directory that cannot be, or a host without KVM.
	run env -i "$TREE/usr/bin/snapd" --state /proc/none --socket /proc/none/s \
		--config "$TREE/etc/quickthaw/snapd.conf"
	assert_failure 2
	[[ $output != *"not found"* ]] || fail "it does not find its files"
	cp -r "$TREE/usr" "$BATS_TEST_TMPDIR"
	rm "$BATS_TEST_TMPDIR/usr/libexec/quickthaw/vmm"
	run env -i "$BATS_TEST_TMPDIR/usr/bin/snapd" --config "$TREE/etc/quickthaw/snapd.conf"
	assert_failure 2
	assert_output_has "vmm: not found"
}

@test "every program has a manual page in the package, which man can show" {
	has_command man || skip "needs man-db to show manual pages"
	local page
	for page in bench.1 snapctl.1 snapd.8 snapshot.1 vmm.1; do
		run man --warnings -l "$TREE/usr/share/man/man${page##*.}/$page.gz"
		assert_success
		assert_output_has NAME SYNOPSIS
	done
}

@test "systemd finds nothing wrong with the units" {
	has_command systemd-analyze || skip "needs systemd-analyze to check units"
	local dir=$BATS_TEST_TMPDIR/units
	mkdir "$dir"
	# What is not installed here is not to be found; neither are manual pages.
	sed "s|=/usr/bin/|=$TREE/usr/bin/|; /^Documentation=/d" \
		"$TREE/lib/systemd/system/quickthaw.service" >"$dir/quickthaw.service"
	sed '/^Documentation=/d' "$TREE/lib/systemd/system/quickthaw.socket" >"$dir/quickthaw.socket"
	run systemd-analyze verify "$dir/quickthaw.service" "$dir/quickthaw.socket"
	assert_success
	assert_equal "$output" ""
}

@test "bash completes commands, options and their values" {
	offers "snapctl in"
	assert_equal "$output" invoke
	offers "snapctl deploy --m"
	assert_equal "$output" --memory
	offers "snapctl invoke hello --start c"
	assert_equal "$output" cold
	offers "snapd --cpu-baseline x"
	assert_equal "$output" x86-64-v3
	offers "vmm run --cap"
	assert_equal "$output" --capture
	offers "bench co"
	assert_equal "$output" compare
	offers "bench "
	[[ $output != *cold* ]] || fail "the help's other lists are taken for commands"
	offers "snapshot v"
	assert_equal "$output" verify
	offers "snapctl nonsense --"
	assert_equal "$output" ""
}

@test "bash offers every option of every program" {
	local program wanted
	for program in snapd "vmm run" "bench run"; do
		offers "$program --"
		wanted=$("$TREE/usr/bin/../libexec/quickthaw/${program%% *}" --help 2>/dev/null ||
			"$TREE/usr/bin/${program%% *}" --help)
		wanted=$(grep -oE -e '--[a-z][a-z-]+' <<<"$wanted" | sort -u)
		assert_equal "$(sort -u <<<"$output")" "$wanted"
	done
}

@test "a key press in a real bash completes a command" {
	has_command script || skip "needs script to have a terminal"
	cat >"$BATS_TEST_TMPDIR/rc" <<-END
		PS1='> '
		PATH=$TREE/usr/bin:\$PATH
		BASH_COMPLETION_USER_DIR=$TREE/usr/share/bash-completion
		source /usr/share/bash-completion/bash_completion
	END
	# "snapctl publ" and a tab; the rest of the line asks for help, so that something is printed.
	run timeout 60 script -qec "bash --noprofile --rcfile $BATS_TEST_TMPDIR/rc -i" /dev/null < <(
		sleep 2
		printf 'snapctl publ\t--he\t\n'
		sleep 3
		printf 'exit\n'
	)
	assert_output_has "snapctl publish --help" "Start function NAME"
}
