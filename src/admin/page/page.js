// What moves on the operators' page, and its keys. Everything reads without it.
//
// The server says which parts have changed; those are asked for anew, as HTML, from where the page itself
// came from. Nothing is computed here, nothing is kept but two settings.

const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// --- Parts that move -------------------------------------------------------------------------------------

const pause = 1500; // between two questions, in ms
const alone = 15000; // where no stream can be had
let waiting = new Set();
let asking = false;
let stream = null;
let retry = 0;

function concerns(element, changed) {
  return element.dataset.by.split(" ").some((name) => changed.has(name));
}

function changed(names) {
  for (const name of names) waiting.add(name);
  for (const note of all("[data-stale]")) if (waiting.has(note.dataset.stale)) note.hidden = false;
  if (!asking) ask();
}

async function ask() {
  const now = waiting;
  waiting = new Set();
  const parts = all("[data-part]").filter((part) => concerns(part, now)).map((part) => part.dataset.part);
  if (parts.length === 0 || document.hidden) return;
  asking = true;
  try {
    const address = location.pathname + location.search;
    const answer = await fetch(address, {
      headers: { "x-understudy-parts": parts.join(" ") },
      redirect: "manual",
      signal: AbortSignal.timeout(30000),
    });
    if (answer.type === "opaqueredirect") return location.reload(); // the login has ended
    if (answer.ok) {
      show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      heard();
    } else unheard();
  } catch {
    // It does not answer now; the stream says when to ask again.
    unheard();
  }
  setTimeout(() => {
    asking = false;
    if (waiting.size > 0) ask();
  }, pause);
}

// Without an answer for a while, what stands here may be old: a screen on a wall must not say that all is well.
// The stream says something every 15 seconds at least.
let mute = 0;
let failing = false;

function lost(is = true) {
  one("#lost").hidden = !is;
  document.documentElement.classList.toggle("lost", is);
}

function heard() {
  clearTimeout(mute);
  failing = false;
  lost(false);
  mute = setTimeout(lost, 40000);
}

function unheard() {
  if (failing) return;
  failing = true;
  clearTimeout(mute);
  // A stream that has lived its time is opened again after three.
  mute = setTimeout(lost, 5000);
}

function show(fresh) {
  for (const part of all("[data-part]")) {
    const next = one(`[data-part="${CSS.escape(part.dataset.part)}"]`, fresh);
    if (!next || next.outerHTML === part.outerHTML) continue;
    // What somebody types into, or was answered, stays while it is made of the same.
    if (next.dataset.madeOf && next.dataset.madeOf === part.dataset.madeOf) continue;
    // Whoever is in it with the keyboard stays where they were.
    const focus = part.contains(document.activeElement) ? place(document.activeElement, part) : null;
    const open = all("details", part).map((details) => details.open);
    const scrolled = all(".wide", part).map((box) => box.scrollLeft);
    const said = one("[data-say]", part)?.textContent;
    part.replaceWith(document.importNode(next, true));
    const now = one(`[data-part="${CSS.escape(part.dataset.part)}"]`);
    all("details", now).forEach((details, at) => { if (at < open.length) details.open = open[at]; });
    all(".wide", now).forEach((box, at) => { box.scrollLeft = scrolled[at] ?? 0; });
    const words = one("[data-say]", now)?.textContent;
    if (words && words !== said) one("#said").textContent = words;
    focus?.(now);
  }
  dress();
}

// How to find an element again in another copy of its part.
function place(element, part) {
  if (element.id) return () => document.getElementById(element.id)?.focus();
  const same = (within) => all("a, button, input, summary, [tabindex]", within);
  const at = same(part).indexOf(element);
  return (within) => same(within)[at]?.focus();
}

function listen() {
  if (stream || document.hidden) return;
  clearTimeout(retry);
  stream = new EventSource("/ui/events");
  stream.addEventListener("changed", (event) => { heard(); changed(event.data.split(" ")); });
  stream.addEventListener("still", heard);
  stream.onopen = heard;
  stream.onerror = () => {
    unheard();
    if (stream.readyState !== EventSource.CLOSED) return;
    // No place for a stream: look now and then, and try again.
    stream = null;
    changed(["status", "findings", "cutover", "verification", "readiness"]);
    retry = setTimeout(listen, alone);
  };
}

function rest() {
  stream?.close();
  stream = null;
  clearTimeout(mute);
  failing = false;
}

// A page that nobody sees takes none of the proxy's connections.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return rest();
  listen();
  changed(["status", "cutover", "verification", "readiness"]);
});
addEventListener("pagehide", rest);
addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
if (one("[data-part]")) listen();

// Where the views do not fit beside each other, the one that is shown is in sight.
const here = one(".top nav a[aria-current]");
if (here) {
  const views = here.parentElement;
  const beside = here.getBoundingClientRect().left - views.getBoundingClientRect().left;
  views.scrollLeft += beside - (views.clientWidth - here.offsetWidth) / 2;
}

// --- Ages, buttons ---------------------------------------------------------------------------------------

function age(at) {
  const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(at)) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

setInterval(() => {
  for (const time of all("time[data-age]")) {
    const words = age(time.dateTime);
    if (time.textContent !== words) time.textContent = words;
  }
}, 5000);

function dress() {
  confirm();
  for (const button of all("button[data-copy]")) button.hidden = !navigator.clipboard;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("button[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

// Empty fields make no address longer.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "get") return;
  const empty = all("input, select", event.target).filter((field) => field.value === "");
  for (const field of empty) field.disabled = true;
  setTimeout(() => { for (const field of empty) field.disabled = false; });
});

// The great button waits for the server's name. Without this script the server asks for it all the same.
function confirm() {
  const field = one("[data-confirm]");
  if (field) one("#go").disabled = field.value.trim() !== field.dataset.confirm;
}
document.addEventListener("input", confirm);
dress();
one("#wrong")?.focus();

// --- Live queries ----------------------------------------------------------------------------------------

const tail = one("#tail");
const pauses = one("#pause");
let live = null;
let passed = 0;

function follow(on, why) {
  live?.close();
  live = on && !document.hidden ? new EventSource(tail.dataset.tail) : null;
  one("#tail-state").textContent = why ?? (on ? "Live." : "Paused.");
  pauses.textContent = on ? "Pause" : "Resume";
  pauses.dataset.on = on ? "yes" : "";
  if (!live) return;
  live.addEventListener("rows", (event) => {
    tail.insertAdjacentHTML("afterbegin", event.data); // escaped by the server, as all that it sends
    while (tail.rows.length > Number(tail.dataset.most)) tail.deleteRow(-1);
  });
  live.addEventListener("passed", (event) => {
    passed += Number(event.data);
    one("#passed").textContent = passed.toLocaleString("en");
  });
  live.onerror = () => {
    if (live?.readyState === EventSource.CLOSED) follow(false, "No place to listen, or the login has ended. Resume tries again.");
  };
}

if (tail) {
  pauses.hidden = false;
  pauses.addEventListener("click", () => follow(!pauses.dataset.on));
  document.addEventListener("visibilitychange", () => { if (pauses.dataset.on) follow(true); });
  addEventListener("pagehide", () => live?.close());
  addEventListener("pageshow", (event) => { if (event.persisted && pauses.dataset.on) follow(true); });
  follow(true);
}

// --- Keys ------------------------------------------------------------------------------------------------

const help = one("#keys");
const wish = one("#keys-on");
const kept = "understudy.keys";
const stored = (value) => {
  try {
    if (value === undefined) return localStorage.getItem(kept);
    localStorage.setItem(kept, value);
  } catch {
    // Where nothing may be stored, the setting lasts as long as the page.
  }
  return value ?? null;
};

if (help) {
  wish.checked = stored() !== "off";
  wish.addEventListener("change", () => stored(wish.checked ? "on" : "off"));
  one("#help").hidden = false;
  one("#help").addEventListener("click", showKeys);
}

// The first thing in it would be the switch; whoever presses a key too many must not turn it.
function showKeys() {
  help.showModal();
  one("button", help).focus();
}

let chord = false;

function move(by) {
  const rows = all("tr[data-row]").map((row) => one("a", row)).filter(Boolean);
  const now = document.activeElement?.closest?.("tr[data-row]");
  const at = now ? rows.indexOf(one("a", now)) : -1;
  const next = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

const go = (link) => { if (link) location.assign(link.href); };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !help || help.open) return;
  if (event.target.closest?.("input:not([type=radio], [type=checkbox]), select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    // Enter behind the server's name would press the first button, the dry run: it leads to the one that is meant.
    if (event.key === "Enter" && event.target.dataset.confirm) {
      event.preventDefault();
      one("#go").focus();
    }
    return;
  }
  if (!wish.checked && event.key !== "?") return;
  if (chord) {
    chord = false;
    const link = all("nav a[data-key]").find((one) => one.dataset.key === event.key);
    if (link) { event.preventDefault(); go(link); }
    return;
  }
  const choice = all("input[type=radio][data-key]").find((radio) => radio.dataset.key === event.key);
  const keys = {
    j: () => move(1),
    k: () => move(-1),
    u: () => go(one('a[rel="up"]')),
    "[": () => go(one('a[rel="prev"]')),
    "]": () => go(one('a[rel="next"]')),
    "/": () => one("#search")?.focus(),
    p: () => pauses?.click(),
    "?": showKeys,
    g: () => { chord = true; setTimeout(() => { chord = false; }, 1500); },
  };
  if (choice) {
    event.preventDefault();
    choice.checked = true;
    const fields = ["#who", event.key === "a" ? "#until" : "#why", "#why"].map((field) => one(field));
    (fields.find((field) => field.value === "") ?? fields.at(-1)).focus();
  } else if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});
