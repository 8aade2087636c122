// The console: one page over the JSON API. A section asks the API and returns nodes; `morph` brings the page up to date
// with them, so that focus, selections and what is being typed survive a refresh. What comes from the API is only ever
// made into text. A button says what it does in data-action and to what in data-of; one listener looks that up.

const REFRESH_MS = 2000;
const CALL_MS = 10_000;
const PAGE = 50;
const MOST_REDRIVEN = 1000; // at a time
const MOST_REPORTED = 100; // a worker names so many of the tasks it runs
const MOST_RUNNING_SHOWN = 25;

// Every state of a task, and what can be done to a task in it.
const STATES = {
  queued: ["cancel"],
  running: ["cancel"],
  cancelling: [],
  scheduled: ["run-now", "cancel"],
  retrying: ["run-now", "cancel"],
  dead: ["redrive", "discard"],
  succeeded: [],
  cancelled: [],
  expired: [],
};

// What a button does. `ask` is the question that comes first; `told` is what is said of the answer.
const ACTIONS = {
  pause: { label: "Pause", route: "POST /queues/{priority}/pause", told: (_, name) => `${name} is paused.` },
  resume: { label: "Resume", route: "POST /queues/{priority}/resume", told: (_, name) => `${name} is resumed.` },
  purge: {
    label: "Purge",
    route: "POST /queues/{priority}/purge",
    ask: (name) => `Cancel every task that waits in ${name}? What runs goes on.`,
    told: ({ cancelled, more }, name) => `${number(cancelled)} tasks of ${name} are cancelled${more ? ", there are more" : ""}.`,
  },
  "run-now": { label: "Run now", route: "POST /tasks/{task_id}/run-now", told: toldState },
  redrive: { label: "Redrive", route: "POST /dlq/{task_id}/redrive", told: toldState },
  cancel: {
    label: "Cancel",
    route: "POST /tasks/{task_id}/cancel",
    ask: (id) => `Cancel task ${id}? It will not be tried again.`,
    told: toldState,
  },
  discard: {
    label: "Discard",
    route: "DELETE /dlq/{task_id}",
    ask: (id) => `Discard task ${id}? Nothing of it is kept.`,
    told: (_, id) => `Task ${id} is discarded.`,
  },
};
const DANGEROUS = ["cancel", "discard", "purge"];

const SECTIONS = { overview, tasks, task, dlq };
const TITLES = { overview: "Overview", tasks: "Tasks", task: "Task", dlq: "Dead tasks" };
const NONE = "–";
const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const $ = (id) => document.getElementById(id);

// ---- The API ----

/** An answer that is none of 2xx, in the API's own words; status 0 where there was no answer. */
class Problem extends Error {
  constructor({ status, title, detail, pointer }) {
    super(`${title}${detail ? `: ${detail}` : ""}${pointer ? ` (at ${pointer})` : ""}`);
    this.status = status;
    this.isOfToken = status === 401 || status === 403;
  }
}

/** Ask a route of api/table.py, with `of` for its parameter. Throws Problem. */
async function call(route, { of = "", query, body } = {}) {
  const [method, template] = route.split(" ");
  const path = template.replace(/\{\w+\}/, encodeURIComponent(of));
  const token = sessionStorage.getItem("token");
  const headers = new Headers(token ? { Authorization: `Bearer ${token}` } : {});
  if (body) headers.set("Content-Type", "application/json");
  const request = { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(CALL_MS) };
  const { ok, status, text } = await answer(`.${path}${query ? `?${new URLSearchParams(query)}` : ""}`, request);
  if (!ok) throw new Problem({ title: `The answer was ${status}`, ...parsed(text), status });
  return parsed(text);
}

async function answer(url, request) {
  try {
    const response = await fetch(url, request);
    return { ok: response.ok, status: response.status, text: await response.text() };
  } catch {
    throw new Problem({ status: 0, title: "The API cannot be reached" });
  }
}

/** JSON, or null for what is none: a proxy between us and the API may answer with a page of its own. */
function parsed(text) {
  try {
    return JSON.parse(text, exactly);
  } catch {
    return null;
  }
}

/** A reviver that keeps the digits of integers which a JavaScript number cannot hold, where the browser lets us. */
function exactly(_key, value, context) {
  const tooLong = Number.isInteger(value) && !Number.isSafeInteger(value);
  return tooLong && context && JSON.rawJSON ? JSON.rawJSON(context.source) : value;
}

let known; // the names of the priorities, highest first: they do not change while an API runs

async function priorities() {
  known ??= (await call("GET /queues")).queues.map((queue) => queue.priority);
  return known;
}

// ---- The sections: each returns what <main> is to hold ----

async function overview() {
  const asked = ["GET /queues", "GET /metrics/summary", "GET /workers"];
  const [{ queues }, summary, { workers }] = await Promise.all(asked.map((route) => call(route)));
  const heard = workers.filter(({ live }) => live); // what a lost worker last told of runs elsewhere by now, or has ended
  const running = heard.flatMap(({ id, report }) => (report.running ?? []).map((one) => ({ ...one, worker: id })));
  const cut = heard.some(({ report }) => report.running?.length >= MOST_REPORTED);
  return [
    el("h1", {}, TITLES.overview),
    summary.stale && el("p", { class: "note warn" }, "The API has not sampled the store lately: the rates are old."),
    figures(summary),
    queueTable(queues, running, cut),
    workerTable(workers),
    runningTable(running),
    typeTable(summary),
  ];
}

function figures({ throughput_per_second: rate, failure_ratio, p95_run_seconds, processing_inflight, workers }) {
  const shown = {
    Throughput: rate === null ? NONE : `${number(rate)} /s`,
    Failures: percent(failure_ratio),
    "p95 run time": seconds(p95_run_seconds),
    Running: number(processing_inflight),
    "Slots busy": `${number(workers.busy)} of ${number(workers.slots)}`,
    Workers: number(workers.live),
  };
  return el("dl", { class: "figures" }, ...Object.entries(shown).map(pair));
}

/** `cut` says that there may be more running than what the workers told of. */
function queueTable(queues, running, cut) {
  const rows = queues.map(({ priority, paused, queued, scheduled, retrying, dead, oldest_queued_age_seconds: age }) => {
    const to = (state, count) => (count ? link("tasks", { state, priority }, number(count)) : "0");
    const runs = running.filter((one) => one.priority === priority).length;
    return row(
      { key: priority, kind: paused && "warn" },
      [priority, paused && chip("paused")],
      to("queued", queued),
      [cut && "≥ ", to("running", runs)],
      to("scheduled", scheduled),
      to("retrying", retrying),
      dead ? link("dlq", { priority }, number(dead)) : "0",
      seconds(age),
      [button(paused ? "resume" : "pause", priority), queued + scheduled + retrying > 0 && button("purge", priority)],
    );
  });
  const columns = ["Priority", "#Queued", "#Running", "#Scheduled", "#Retrying", "#Dead", "#Oldest waits", ""];
  return table("Priorities", columns, rows);
}

function workerTable(workers) {
  const rows = workers.map(({ id, live, silent_seconds, report }) => {
    const troubles = [
      !live && `silent for ${seconds(silent_seconds)}`,
      report.draining && "draining",
      report.loop_blocked && "loop blocked",
      report.stuck > 0 && `${report.stuck} stuck`,
    ].filter(Boolean);
    return row(
      { key: id, kind: (!live || report.loop_blocked || report.stuck > 0) && "bad" },
      el("span", { class: "id" }, id),
      troubles.join(", ") || "live",
      live ? number(report.busy) : NONE,
      number(report.concurrency),
      report.started_ms ? ago(report.started_ms) : NONE,
      (report.types ?? []).join(", "),
    );
  });
  const columns = ["Worker", "State", "#Busy", "#Slots", "#Up for", "Handles"];
  return table("Workers", columns, rows, "No worker has reported.");
}

/** First what does not let go, then what runs longest. */
function runningTable(running) {
  const inOrder = running.toSorted((a, b) => b.stuck - a.stuck || b.seconds - a.seconds);
  const rows = inOrder.slice(0, MOST_RUNNING_SHOWN).map((one) =>
    row(
      { key: one.id, kind: one.stuck && "bad" },
      taskLink(one.id),
      one.type,
      one.priority,
      number(one.attempt),
      seconds(one.seconds),
      [one.stuck ? "stuck" : one.cancelling && "stopping", one.stack && folded("Stack", one.stack)],
      el("span", { class: "id" }, one.worker),
    ),
  );
  const longest = running.length > rows.length && `, the ${rows.length} longest of ${number(running.length)}`;
  const columns = ["Task", "Type", "Priority", "#Attempt", "#For", "State", "Worker"];
  return table(["Running", longest], columns, rows, "Nothing runs.");
}

function typeTable({ types, window_seconds }) {
  const rows = Object.entries(types).map(([type, { throughput_per_second: rate, failure_ratio, p95_run_seconds }]) =>
    row({ key: type }, link("tasks", { type }, type), number(rate), percent(failure_ratio), seconds(p95_run_seconds)),
  );
  const columns = ["Type", "#Per second", "#Failures", "#p95 run time"];
  return table(`Types, over the last ${seconds(window_seconds)}`, columns, rows, "Nothing has ended.");
}

async function tasks({ query }) {
  const [names, page] = await Promise.all([priorities(), call("GET /tasks", { query: { limit: PAGE, ...query } })]);
  const rows = page.tasks.map((one) =>
    row(
      { key: one.id },
      taskLink(one.id),
      chip(one.state),
      one.type,
      one.priority,
      attemptOf(one),
      ago(Date.parse(one.created_at)),
      one.last_error ? errorLine(one.last_error) : one.tags.join(", "),
    ),
  );
  const columns = ["Task", "State", "Type", "Priority", "#Attempt", "#Age", "Last error, or tags"];
  return [
    el("h1", {}, TITLES.tasks),
    filters("tasks", query, { state: Object.keys(STATES), type: null, priority: names, tag: null }),
    table("", columns, rows, nothingOn(page)),
    pager("tasks", query, page),
  ];
}

async function dlq({ query }) {
  const [names, page] = await Promise.all([priorities(), call("GET /dlq", { query: { limit: PAGE, ...query } })]);
  const rows = page.tasks.map((one) =>
    row(
      { key: one.id },
      taskLink(one.id),
      one.type,
      one.priority,
      attemptOf(one),
      ago(Date.parse(one.finished_at)),
      errorLine(one.last_error),
      STATES.dead.map((action) => button(action, one.id)),
    ),
  );
  const columns = ["Task", "Type", "Priority", "#Attempt", "#Dead for", "Last error", ""];
  return [
    el("h1", {}, TITLES.dlq),
    filters("dlq", query, { type: null, priority: names, tag: null }),
    page.tasks.length > 0 && redriveMany(query),
    table("", columns, rows, nothingOn(page)),
    pager("dlq", query, page),
  ];
}

/** The API redrives by type and priority: with a tag in the filter this would do more than is shown. */
function redriveMany({ type, priority, tag }) {
  const which = { "data-action": "redrive-many", "data-type": type, "data-priority": priority };
  return el(
    "p",
    {},
    el("button", { type: "button", ...which, disabled: Boolean(tag) }, `Redrive ${named({ type, priority })}…`),
    el("span", { class: "quiet" }, tag ? " Many cannot be redriven by tag." : " They are counted first."),
  );
}

async function task({ id }) {
  const one = await call("GET /tasks/{task_id}", { of: id });
  return [
    el("h1", {}, one.type, chip(one.state)),
    el("p", { class: "id" }, one.id),
    el("p", {}, ...STATES[one.state].map((action) => button(action, one.id))),
    one.progress && progressOf(one.progress),
    one.timeline && timelineOf(one.timeline),
    el("div", { class: "columns" }, json("Payload", one.payload), json("Result", one.result)),
    one.last_error && el("h2", {}, "Last error"),
    one.last_error && el("pre", { class: "bad" }, one.last_error.traceback || errorLine(one.last_error)),
    attemptTable(one.attempts),
    el("h2", {}, "Fields"),
    fieldsOf(one),
  ];
}

const json = (title, value) => el("section", {}, el("h2", {}, title), el("pre", {}, pretty(value)));

function attemptTable(attempts) {
  const rows = attempts.map(({ n, worker_id, started_at, finished_at, outcome, error, cancel_cause }) =>
    row(
      { key: started_at },
      number(n),
      cancel_cause ? `${outcome} (${cancel_cause})` : outcome,
      time(started_at),
      seconds((Date.parse(finished_at) - Date.parse(started_at)) / 1000),
      error?.traceback ? folded(errorLine(error), error.traceback) : errorLine(error),
      el("span", { class: "id" }, worker_id),
    ),
  );
  const columns = ["#Attempt", "Outcome", "Started", "#Ran", "Error", "Worker"];
  return table("Attempts", columns, rows, "None has ended.");
}

/** Everything of a task that has no place of its own on its page. */
function fieldsOf({ id, type, state, terminal, payload, result, last_error, attempts, progress, timeline, ...fields }) {
  const shown = (name, value) => {
    if (value === null || value.length === 0) return NONE;
    if (name.endsWith("_at") || name === "deadline") return time(value);
    if (name.endsWith("_seconds")) return seconds(value);
    if (Array.isArray(value)) return value.join(", ");
    return typeof value === "object" ? pretty(value) : String(value);
  };
  const pairs = Object.entries(fields).map(([name, value]) => pair([name.replaceAll("_", " "), shown(name, value)]));
  return el("dl", { class: "fields" }, ...pairs);
}

function progressOf({ current, total, message }) {
  const bar = el("progress", { "aria-label": "Progress", max: total, value: total && current });
  return el("p", {}, bar, ` ${number(current)}${total ? ` of ${number(total)}` : ""} ${message ?? ""}`);
}

/** Where a task's age went: as a bar, and in words. */
function timelineOf(timeline) {
  const spent = Object.entries(timeline).filter(([, length]) => length > 0);
  const age = spent.reduce((sum, [, length]) => sum + length, 0);
  let x = 0;
  const bars = spent.map(([kind, length]) => {
    const bar = svg("rect", { class: kind, x: (100 * x) / age, width: (100 * length) / age, height: 1 });
    x += length;
    return bar;
  });
  const swatch = (kind) => svg("svg", { viewBox: "0 0 1 1" }, svg("rect", { class: kind, width: 1, height: 1 }));
  const words = spent.map(([kind, length]) => el("li", {}, swatch(kind), `${kind.replace("_", " ")} `, seconds(length)));
  const whole = { class: "bar", viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" };
  const list = el("ul", { "aria-label": "Where its time went" }, ...words);
  return el("div", { class: "timeline" }, svg("svg", whole, ...bars), list);
}

// ---- Parts ----

/** An element. Of attributes and children, what is null, undefined or false is left out; strings become text. */
const el = (name, attributes, ...children) => furnish(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) =>
  furnish(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

function furnish(node, attributes, children) {
  const isThere = (value) => value !== null && value !== undefined && value !== false;
  for (const [name, value] of Object.entries(attributes)) {
    if (isThere(value)) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter(isThere));
  return node;
}

const row = ({ key, kind }, ...cells) => ({ key, kind, cells });

/** A table of rows; "#" before a column's name is for numbers. Narrow screens name the column in each cell instead. */
function table(caption, columns, rows, empty = "There are none.") {
  const names = columns.map((name) => name.replace("#", ""));
  const kinds = columns.map((name) => name.startsWith("#") && "number");
  const heads = names.map((name, n) => el("th", { scope: "col", class: kinds[n] }, name));
  const cell = (content, n) =>
    n
      ? el("td", { class: kinds[n], "data-name": names[n] }, ...[content].flat())
      : el("th", { class: kinds[n], scope: "row" }, ...[content].flat());
  const body = rows.map(({ key, kind, cells }) => el("tr", { "data-key": key, class: kind }, ...cells.map(cell)));
  const nothing = el("tr", {}, el("td", { colspan: columns.length, class: "quiet" }, empty));
  return el(
    "table",
    {},
    el("caption", {}, ...[caption].flat()),
    el("thead", {}, el("tr", {}, ...heads)),
    el("tbody", {}, ...(rows.length ? body : [nothing])),
  );
}

/** A form whose fields are a section's query: null is a free text, a list is what there is to choose from. */
function filters(section, query, fields) {
  const field = ([name, choices]) => {
    const value = query[name] ?? "";
    const option = (one) => el("option", { value: one, selected: one === value }, one);
    const any = el("option", { value: "", "data-key": "any" }, "any");
    const select = choices && el("select", { name }, any, ...choices.map(option));
    return el("label", {}, name, select ?? el("input", { name, value, autocomplete: "off", spellcheck: "false" }));
  };
  const show = el("button", { class: "main" }, "Show");
  return el("form", { class: "filters", "data-section": section }, ...Object.entries(fields).map(field), show);
}

function pager(section, { page_token: token, ...query }, { next_page_token: next }) {
  const first = token && link(section, query, "First page");
  return el("p", { class: "pager" }, first, next && link(section, { ...query, page_token: next }, "Next page"));
}

function button(action, of) {
  const kind = DANGEROUS.includes(action) && "danger";
  return el("button", { type: "button", class: kind, "data-action": action, "data-of": of }, ACTIONS[action].label);
}

const link = (section, query, text) => el("a", { href: `#/${section}?${new URLSearchParams(query)}` }, text);
const taskLink = (id) => el("a", { class: "id", href: `#/task/${id}` }, id);
const pair = ([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
const chip = (state) => el("span", { class: `chip ${state}` }, state);
const folded = (title, text) => el("details", {}, el("summary", {}, title), el("pre", {}, text));
const time = (text) => el("time", { datetime: text }, text.replace("T", " ").replace("Z", ""));

const nothingOn = (page) => (page.next_page_token ? "None yet: look on, at the next page." : "There are none.");
const attemptOf = ({ attempt, max_attempts: most }) => (most ? `${attempt} of ${most}` : number(attempt));
const errorLine = (error) => (error ? `${error.type}: ${error.message}` : NONE);
const named = ({ type, priority }) => `dead tasks, type ${type ?? "any"}, priority ${priority ?? "any"}`;
const number = (value) => (Number.isFinite(value) ? NUMBER.format(value) : NONE);
const percent = (ratio) => (Number.isFinite(ratio) ? `${number(Math.round(1000 * ratio) / 10)} %` : NONE);
const pretty = (value) => JSON.stringify(value, null, 2);
const clock = (date) => `${date.toISOString().slice(11, 19)} UTC`;
const ago = (ms) => seconds(Math.max(0, (Date.now() - ms) / 1000));

/** A duration, in the one or two units that matter. */
function seconds(value) {
  if (!Number.isFinite(value)) return NONE;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value < 10 ? value.toFixed(1) : Math.floor(value)} s`;
  const units = [[86_400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
  const [large, largeName, small, smallName] = units.find(([length]) => value >= length);
  return `${Math.floor(value / large)} ${largeName} ${Math.floor((value % large) / small)} ${smallName}`;
}

// ---- Bringing the page up to date ----

/** Make `old` look like `fresh` with as few changes as can be. Children are told apart by name and data-key. */
function morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  morphAttributes(old, fresh);
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    let match = at;
    while (match && !alike(match, child)) match = match.nextSibling;
    if (match) {
      while (at !== match) at = dropped(at);
      morph(match, child);
      at = match.nextSibling;
    } else {
      old.insertBefore(child, at);
    }
  }
  while (at) at = dropped(at);
}

/** <details> stay as open as the reader has them. */
function morphAttributes(old, fresh) {
  const gone = [...old.attributes].filter(({ name }) => name !== "open" && !fresh.hasAttribute(name));
  for (const { name } of gone) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
}

const alike = (a, b) => a.nodeName === b.nodeName && a.dataset?.key === b.dataset?.key;

/** Remove a node. -> the one after it */
function dropped(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

/** Where the address says we are: "#/tasks?state=dead" is a section and its query, "#/task/ID" one task. */
function place() {
  const [path, query] = location.hash.slice(1).split("?");
  const [name, id] = path.split("/").filter(Boolean);
  const section = Object.hasOwn(SECTIONS, name ?? "") ? name : "overview";
  return { address: location.hash, section, id, query: Object.fromEntries(new URLSearchParams(query)) };
}

let turn = 0; // of `refresh`: a later one makes the answer to an earlier one worthless
let timer;
let shown; // the address that <main> is about
let freshAt;

/** Ask and show, and again in two seconds while anybody can see it. */
async function refresh() {
  clearTimeout(timer);
  const mine = ++turn;
  const here = place();
  try {
    const nodes = await SECTIONS[here.section](here);
    if (mine === turn) show(here, nodes);
  } catch (error) {
    if (mine === turn) showFailure(here, error);
  }
  if (mine === turn && !document.hidden && !$("token").open) timer = setTimeout(refresh, REFRESH_MS);
}

function show(here, nodes) {
  put(here, nodes);
  freshAt = new Date();
  $("freshness").textContent = clock(freshAt);
  say("stale", "");
}

/** What the API refuses is shown in place of the section. Else old numbers stay, and are said to be old. */
function showFailure(here, error) {
  if (error.isOfToken) tokenRefused(error.message);
  else if (error.status >= 400 && error.status < 500) {
    show(here, [el("h1", {}, "Nothing to show"), el("p", { class: "note bad" }, error.message)]);
    return;
  }
  const old = here.address === shown && freshAt;
  if (!old) put(here, [el("p", { class: "quiet" }, "Nothing is known of this yet.")]);
  say("stale", `Stale: ${error.message}.${old ? ` What you see is from ${clock(freshAt)}.` : ""}`);
  if (!(error instanceof Problem)) console.error(error);
}

/** The nodes into <main>. Another address begins anew, at its top, for the eye and for a screen reader. */
function put({ address, section, id }, nodes) {
  const main = $("main");
  const fresh = el("main", { id: "main", tabindex: "-1" }, ...nodes);
  if (address === shown) return morph(main, fresh);
  main.replaceChildren(...fresh.childNodes);
  document.title = `${TITLES[section]}${id ? ` ${id}` : ""} - Taskward`;
  for (const a of document.querySelectorAll("nav a")) a.ariaCurrent = a.dataset.section === section ? "page" : null;
  if (shown !== undefined) main.focus();
  shown = address;
  return undefined;
}

/** A line under the header; a screen reader hears it once. */
function say(line, text, kind = "") {
  const node = $(line);
  if (node.textContent !== text) node.textContent = text;
  node.hidden = !text;
  node.className = `note ${kind}`;
  document.body.classList.toggle("stale", !$("stale").hidden);
}

// ---- Doing ----

/** What a button says, then the page as it is after it. */
async function act({ action, of, type, priority }) {
  try {
    say("message", await (action === "redrive-many" ? redriveCounted({ type, priority }) : actOn(action, of)));
  } catch (error) {
    const unsure = error.status === 0 || error.status >= 500 ? ". It may have been done all the same." : "";
    say("message", `${error.message}${unsure}`, "bad");
    if (error.isOfToken) askToken(error.message);
  }
  await refresh();
}

/** One thing, to one task or priority. -> what to say of it; nothing where the answer was no */
async function actOn(action, of) {
  const { route, ask, told, label } = ACTIONS[action];
  if (ask && !(await confirmed(ask(of), label))) return "";
  return told(await call(route, { of }), of);
}

function toldState({ id, state }) {
  return `Task ${id} is ${state} now.`; // hoisted: ACTIONS names it
}

/** Many dead tasks: counted first, by the API itself. */
async function redriveCounted(which) {
  const body = { ...which, limit: MOST_REDRIVEN };
  const { matched, more } = await call("POST /dlq/redrive", { body: { ...body, dry_run: true } });
  const count = `${more ? "the first " : ""}${number(matched)}`;
  if (!(await confirmed(`Redrive ${count} ${named(which)}?`, `Redrive ${number(matched)}`))) return "";
  return `${number((await call("POST /dlq/redrive", { body })).redriven)} tasks are queued again.`;
}

/** Ask in the page. -> whether the answer was yes; the keyboard begins on "No" */
function confirmed(question, yes) {
  const dialog = $("confirm");
  $("question").textContent = question;
  $("yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    // The event comes a little late: where the dialog is open again, it is about the question before.
    dialog.onclose = () => dialog.open || resolve(dialog.returnValue === "yes");
  });
}

let refused; // the token that was complained about last: once is enough

function tokenRefused(why) {
  const token = sessionStorage.getItem("token");
  if (token === refused) return;
  refused = token;
  askToken(why);
}

function askToken(why) {
  if ($("token").open) return;
  $("token-why").textContent = why;
  $("token").returnValue = "close";
  $("token").showModal();
}

function tokenGiven() {
  const field = $("token").querySelector("input");
  if ($("token").returnValue === "use") sessionStorage.setItem("token", field.value.trim());
  if ($("token").returnValue === "forget") sessionStorage.removeItem("token");
  field.value = "";
  refresh();
}

/** A form of the page is an address: the task to find, or a section and its query. */
function addressOf(form) {
  const fields = [...new FormData(form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value);
  if (form.id === "find") return `#/task/${encodeURIComponent(form.elements.id.value.trim())}`;
  return `#/${form.dataset.section}?${new URLSearchParams(fields)}`;
}

document.addEventListener("click", ({ target }) => {
  const order = target.closest("button[data-action]")?.dataset;
  if (order?.action === "token") askToken("It is sent with every request to the API.");
  else if (order) act(order);
});
document.addEventListener("submit", (event) => {
  if (event.target.getAttribute("method") === "dialog") return;
  event.preventDefault();
  location.hash = addressOf(event.target);
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());
addEventListener("hashchange", () => {
  say("message", "");
  refresh();
});
$("token").addEventListener("close", tokenGiven);
refresh();
