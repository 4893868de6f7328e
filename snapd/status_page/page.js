// SPDX-License-Identifier: Apache-2.0
// page.js - ask snapd for its figures, and draw them. Everything from snapd is put in as text.
"use strict";

const POLL_MS = 2000, WINDOW_MS = 60000, ROWS_MAX = 200, DOTS_MAX = 512;
const KINDS = [
	["warm", "warm", "an instance was running"],
	["resident-restore", "resident", "restored from memory"],
	["cold-restore", "cold", "restored from disk"],
	["cold-boot", "boot", "booted"],
];
// What an instance is doing, in words for people who do not know the states.
const STATES = {
	invoking: ["warm", "invoking"], restoring: ["resident", "restoring"], idle: ["cold", "idle, kept warm"],
	booting: ["boot", "booting"], ready: ["boot", "ready"], capturing: ["boot", "capturing"],
	tracing: ["boot", "tracing"], shell: ["rest", "shell, waiting for a snapshot"],
	spawning: ["rest", "spawning"], ending: ["rest", "ending"],
};
// A minute has to be watched before it can be shown; #minute in the address asks for it at once.
let history = [], since_start = location.hash !== "#minute", polls = 0;

const at = id => document.getElementById(id);

function el(tag, className, text) {
	const e = document.createElement(tag);
	if (className) e.className = className;
	if (text !== undefined) e.textContent = text;
	return e;
}

function svg(tag, attributes) {
	const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
	for (const name in attributes) e.setAttribute(name, attributes[name]);
	return e;
}

// ---- figures for people

function seconds(s) {
	if (!isFinite(s)) return "–";
	const [v, unit] = s < 0.001 ? [s * 1e6, "µs"] : s < 1 ? [s * 1e3, "ms"] : [s, "s"];
	return (v < 10 ? v.toFixed(1).replace(/\.0$/, "") : Math.round(v)) + " " + unit;
}

function bytes(n) {
	const units = ["B", "KiB", "MiB", "GiB", "TiB"];
	let i = 0;
	while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
	return (n < 10 && i ? n.toFixed(1) : Math.round(n)) + " " + units[i];
}

function count(n) { return n.toLocaleString("en"); }

function plural(n, word) { return count(n) + " " + word + (n === 1 ? "" : "s"); }

// ---- /metrics

// {name: [[labels, value], ...]}; labels is an object.
function parse(text) {
	const all = {};
	for (const line of text.split("\n")) {
		const m = /^([a-z_]+)(?:\{(.*)\})? ([^ ]+)$/.exec(line);
		if (!m) continue;
		const labels = {};
		for (const [, k, v] of (m[2] || "").matchAll(/([a-z_]+)="([^"]*)"/g)) labels[k] = v;
		(all[m[1]] = all[m[1]] || []).push([labels, Number(m[3])]);
	}
	return all;
}

function sum(metrics, name, labels = {}) {
	let total = 0;
	for (const [l, v] of metrics[name] || [])
		if (Object.keys(labels).every(k => l[k] === labels[k])) total += v;
	return total;
}

// The buckets of one kind of start: [[upper bound, how many], ...], not cumulative.
function buckets(metrics, kind) {
	let below = 0;
	const list = [];
	for (const [l, v] of metrics.quickthaw_invoke_duration_seconds_bucket || []) {
		if (l.start !== kind) continue;
		list.push([l.le === "+Inf" ? Infinity : Number(l.le), v - below]);
		below = v;
	}
	return list;
}

function difference(now, then, kind) {
	const old = then ? buckets(then, kind) : [];
	return buckets(now, kind).map(([le, n], i) => [le, n - (old[i] ? old[i][1] : 0)]);
}

function total(list) { return list.reduce((n, b) => n + b[1], 0); }

function quantile(list, q) {
	let rank = q * total(list), lower = 0;
	if (!rank) return NaN;
	for (const [le, n] of list) {
		if (n && rank <= n) return le === Infinity ? lower : lower + (le - lower) * rank / n;
		rank -= n;
		lower = le;
	}
	return lower;
}

// ---- the parts of the page

function tile(name, value, unit, note, bad) {
	const t = el("div", bad ? "tile bad" : "tile"), v = el("div", "value", value);
	if (unit) v.append(el("small", "", unit));
	t.append(el("div", "name", name), v, el("div", "note", note || "\u00a0"));
	return t;
}

function spark(values) {
	const s = svg("svg", {viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true"});
	const top = Math.max(...values, 1e-9);
	const points = values.map((v, i) =>
		(i * 100 / Math.max(values.length - 1, 1)).toFixed(1) + " " + (28 - 26 * v / top).toFixed(1));
	if (points.length > 1) s.append(svg("path", {d: "M" + points.join("L")}));
	return s;
}

const COUNT = "quickthaw_invoke_duration_seconds_count";

function rates() {
	const list = [];
	for (let i = 1; i < history.length; i++) {
		const a = history[i - 1], b = history[i];
		list.push(Math.max(0, sum(b.metrics, COUNT) - sum(a.metrics, COUNT)) * 1000 / (b.time - a.time));
	}
	return list;
}

function draw_tiles(stats, m, then) {
	const all = KINDS.map(k => difference(m, then, k[0])).reduce((a, b) => a.map(([le, n], i) => [le, n + (b[i] ? b[i][1] : 0)]));
	const list = rates(), recent = list.slice(-5);
	const rate = recent.length ? recent.reduce((a, b) => a + b) / recent.length : 0;
	const hits = sum(m, "quickthaw_template_lookups_total", {result: "hit"});
	const lookups = sum(m, "quickthaw_template_lookups_total");
	const errors = sum(m, "quickthaw_errors_total") - (then ? sum(then, "quickthaw_errors_total") : 0);
	const fresh = sum(m, "quickthaw_errors_total") - sum(history[0].metrics, "quickthaw_errors_total");
	const throttles = sum(m, "quickthaw_throttles_total");
	const resident = sum(m, "quickthaw_template_resident_bytes");
	const first = tile("Invocations", rate < 10 ? rate.toFixed(1) : count(Math.round(rate)), "/s",
			   count(sum(m, COUNT)) + " since start");
	const period = since_start ? "since start" : "in the last minute";
	first.append(spark(list.slice(-30)));
	at("tiles").replaceChildren(first,
		tile("Median time to answer", seconds(quantile(all, 0.5)), "", "99 % within " + seconds(quantile(all, 0.99))),
		tile("Under way", count(stats.InvocationsUnderWay), "", plural(stats.Queued, "queued invocation")),
		tile("Shells ready", stats.Shells.Ready + " / " + stats.Shells.Target, "", stats.Shells.Spawning + " being made"),
		tile("Restored from memory", lookups ? Math.round(100 * hits / lookups) + " %" : "–", "", "of " + plural(lookups, "restore")),
		tile("Snapshots in memory", bytes(resident), "", plural(sum(m, "quickthaw_templates"), "version")),
		tile("Failed", count(Math.max(0, errors)), "", period + (throttles ? ", " + count(throttles) + " throttled" : ""), fresh > 0),
		tile("snapd itself", bytes(stats.RssKiB * 1024), "", bytes(stats.DiskFreeMiB * 1048576) + " of disk free"));
}

function draw_latency(m, then) {
	const rows = [], lists = KINDS.map(k => difference(m, then, k[0]));
	const used = lists[0].map((b, i) => lists.some(l => l[i] && l[i][1]));
	// Show where something happened, and a little around it.
	let first = used.indexOf(true), last = used.lastIndexOf(true);
	if (first < 0) { first = 0; last = 11; }
	first = Math.max(0, first - 1);
	last = Math.min(used.length - 1, Math.max(last + 1, first + 7));
	const n = last - first + 1;
	KINDS.forEach(([kind, color, meaning], k) => {
		const list = lists[k], all = total(list), row = el("div", "kind"), label = el("div");
		const top = Math.max(...list.map(b => b[1]), 1);
		label.append(el("b", "", kind), el("span", "quiet", all ? count(all) + " · half in " + seconds(quantile(list, 0.5)) : meaning));
		const s = svg("svg", {viewBox: "0 0 " + n * 10 + " 40", preserveAspectRatio: "none", role: "img",
			"aria-label": kind + ": " + plural(all, "invocation") + (all ? ", half within " + seconds(quantile(list, 0.5)) : "")});
		for (let i = 0; i < n; i++) {
			const b = list[first + i];
			if (!b || !b[1]) continue;
			const h = Math.max(2, 38 * b[1] / top), title = svg("title", {});
			const r = svg("rect", {x: i * 10 + 0.6, width: 8.8, y: 40 - h, height: h, class: color});
			title.textContent = count(b[1]) + (b[0] === Infinity ? " slower" : " within " + seconds(b[0]));
			r.append(title);
			s.append(r);
		}
		row.append(label, s);
		rows.push(row);
	});
	const axis = el("div", "axis"), scale = el("div"), step = Math.ceil(n / 8);
	for (let i = step - 1; i < n - 1; i += step) {
		const tick = el("span", "", seconds(lists[0][first + i] ? lists[0][first + i][0] : NaN));
		tick.style.left = (i + 1) * 100 / n + "%";
		scale.append(tick);
	}
	axis.append(scale);
	at("latency").replaceChildren(...rows, axis);
}

function draw_instances(stats) {
	const by_state = {}, order = Object.keys(STATES);
	const sorted = stats.Instances.slice().sort((a, b) => order.indexOf(a.State) - order.indexOf(b.State));
	const dots = sorted.map(i => {
		const dot = el("i", (STATES[i.State] || ["rest"])[0]);
		by_state[i.State] = (by_state[i.State] || 0) + 1;
		dot.title = i.Id + ": " + i.State + (i.FunctionName ? ", " + i.FunctionName + ":" + i.Version : "");
		return dot;
	});
	while (dots.length < Math.min(stats.InstancesMax, DOTS_MAX)) dots.push(el("i"));
	const legend = order.filter(s => by_state[s]).map(s => {
		const item = el("li");
		item.append(el("i", STATES[s][0]), by_state[s] + " " + STATES[s][1]);
		return item;
	});
	at("instances").replaceChildren(...dots);
	at("instances").setAttribute("aria-label", order.filter(s => by_state[s]).map(s => by_state[s] + " " + s).join(", ") || "none");
	at("states").replaceChildren(...legend);
	at("instances-note").textContent = stats.Instances.length + " of " + stats.InstancesMax;
}

// columns: [title, class, row => text or element]
function table(id, columns, rows, empty) {
	const head = el("tr"), body = rows.slice(0, ROWS_MAX).map(row => {
		const tr = el("tr");
		for (const [, className, cell] of columns) {
			const td = el("td", className), c = cell(row);
			td.append(c);
			tr.append(td);
		}
		return tr;
	});
	for (const [title, className] of columns) {
		const th = el("th", className === "number" ? className : "", title);
		th.scope = "col";
		head.append(th);
	}
	if (!rows.length) {
		const tr = el("tr"), td = el("td", "empty", empty);
		tr.append(td);
		at(id).replaceChildren(tr);
		return;
	}
	if (rows.length > ROWS_MAX) {
		const tr = el("tr"), td = el("td", "empty", "and " + count(rows.length - ROWS_MAX) + " more");
		td.colSpan = columns.length;
		tr.append(td);
		body.push(tr);
	}
	at(id).replaceChildren(head, ...body);
}

function bar(share) {
	const track = el("div", "track"), fill = el("i");
	fill.style.width = Math.min(100, 100 * share).toFixed(1) + "%";
	track.append(fill);
	return track;
}

function draw_functions(stats) {
	const running = {};
	for (const i of stats.Instances)
		if (i.FunctionName) running[i.FunctionName] = (running[i.FunctionName] || 0) + 1;
	const rows = stats.Functions.slice().sort((a, b) =>
		(running[b.FunctionName] || 0) - (running[a.FunctionName] || 0) || a.FunctionName.localeCompare(b.FunctionName));
	at("functions-note").textContent = plural(rows.length, "function");
	table("functions", [
		["Function", "", f => el("b", "", f.FunctionName)],
		["Runtime", "", f => f.Runtime],
		["Guest", "", f => f.GuestKind],
		["State", "", f => el("span", f.State === "Failed" ? "badge bad" : "badge", f.Stage ? f.State + ": " + f.Stage : f.State)],
		["Newest version", "number", f => f.Newest || "none"],
		["Versions", "number", f => count(f.Versions)],
		["Instances", "number", f => count(running[f.FunctionName] || 0)],
	], rows, "None yet: snapctl deploy NAME --dir DIRECTORY --publish");
}

function draw_templates(stats) {
	const rows = stats.Templates.slice().sort((a, b) => b.ResidentPages - a.ResidentPages);
	at("templates-note").textContent = plural(rows.length, "version");
	table("templates", [
		["Version", "", t => el("b", "", t.FunctionName + ":" + t.Version)],
		["In memory", "bar", t => bar(t.Pages ? t.ResidentPages / t.Pages : 0)],
		["", "", t => bytes(t.ResidentPages * 4096) + " of " + bytes(t.Pages * 4096)],
		["Shared by", "number", t => plural(t.Users, "instance")],
		["Read", "number", t => bytes(t.BytesRead)],
		["Working set", "", t => t.Recording ? "being recorded" : t.WorkingSet ? "known" : "not known yet"],
	], rows, "None: versions are loaded when they are first invoked");
}

function draw_failures(stats) {
	const rows = stats.Failures;
	at("failures-note").textContent = rows.length ? "the newest " + rows.length : "";
	table("failures", [
		["When", "", f => new Date(f.Time * 1000).toLocaleTimeString("en-GB")],
		["Function", "", f => el("b", "", f.FunctionName + ":" + f.Version)],
		["What", "", f => el("span", "badge bad", f.Kind)],
		["Message", "wrap", f => f.Message],
		["Request", "quiet", f => f.RequestId],
	], rows, "Nothing");
}

function draw() {
	const now = history[history.length - 1], stats = now.stats;
	const then = since_start ? null : history[0].metrics;
	at("build").textContent = stats.Build + " · process " + stats.Pid;
	at("ready").textContent = stats.Unready || "ready";
	at("ready").className = stats.Unready ? "pill bad" : "pill good";
	draw_tiles(stats, now.metrics, then);
	draw_latency(now.metrics, then);
	draw_instances(stats);
	draw_functions(stats);
	draw_templates(stats);
	draw_failures(stats);
}

async function get(path) {
	const reply = await fetch(path, {cache: "no-store", signal: AbortSignal.timeout(10000)});
	if (!reply.ok) throw new Error(path + ": " + reply.status);
	return reply;
}

async function poll() {
	try {
		const [stats, text] = await Promise.all([
			get("quickthaw/v1/stats").then(r => r.json()), get("metrics").then(r => r.text())]);
		const time = Date.now();
		// Another process: its counters begin anew.
		if (history.length && history[history.length - 1].stats.Pid !== stats.Pid) history = [];
		history.push({time, stats, metrics: parse(text)});
		while (history.length > 2 && history[0].time < time - WINDOW_MS) history.shift();
		document.body.classList.remove("stale");
		draw();
		at("main").dataset.polls = ++polls;
	} catch (error) {
		document.body.classList.add("stale");
		at("ready").textContent = "no answer";
		at("ready").className = "pill bad";
		at("ready").title = String(error);
	}
	setTimeout(poll, document.hidden ? 5 * POLL_MS : POLL_MS);
}

function choose(always) {
	since_start = always;
	at("recent").setAttribute("aria-pressed", String(!always));
	at("always").setAttribute("aria-pressed", String(always));
	if (history.length) draw();
}

at("recent").addEventListener("click", () => choose(false));
at("always").addEventListener("click", () => choose(true));
choose(since_start);
poll();
