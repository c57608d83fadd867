"use strict";
// The browser of rows. Every text goes to the page by textContent: what a model wrote is never markup.
(() => {
  const AT_ONCE = 40; // entries that are added to the list in one go
  const data = JSON.parse(document.getElementById("entries").textContent);
  const element = (id) => document.getElementById(id);
  const [form, list, more, found] = ["filters", "list", "more", "found"].map(element);
  const control = Object.fromEntries(["search", "task", "label", "kind", "order", "flipped", "near"].map((id) => [id, element(id)]));
  const hasPvi = data.entries.some((entry) => "pvi" in entry);
  const isRow = (entry) => !("step" in entry);
  const isFlipped = (entry) => "label" in entry && entry.before !== entry.label;
  const labelOf = (entry) => ("label" in entry ? entry.label : entry.asked);
  const spaced = (text) => text.replaceAll("_", " ");
  let matches = [];
  let shown = 0;

  /** What is searched for: each of these words, anywhere in an entry. */
  const words = () => plain(control.search.value).split(/\s+/).filter(Boolean);
  const plain = (text) => text.normalize("NFC").toLowerCase();

  /** Everything that an entry says, the row itself first. */
  function textsOf(entry) {
    const named = [entry.texts ?? [], entry.rows?.flat() ?? [], entry.shown, entry.seed, entry.variant, entry.votes ?? []];
    const other = [entry.reason, entry.text, entry.explanation, labelOf(entry), entry.before, entry.slot, ...(entry.near ?? [])];
    return [...named.flat().map(([, text]) => text), ...other].filter((text) => typeof text === "string");
  }

  /** The same to be searched; made once, when an entry is first searched. */
  const searched = new WeakMap();
  function textOf(entry) {
    if (!searched.has(entry)) searched.set(entry, plain(textsOf(entry).join("\n")));
    return searched.get(entry);
  }

  function filter() {
    const wanted = words();
    const task = data.tasks.findIndex((one) => one.title === control.task.value);
    const passes = (entry) =>
      (task < 0 || entry.task === task) &&
      (!control.label.value || labelOf(entry) === control.label.value) &&
      (!control.kind.value || (control.kind.value === "row") === isRow(entry)) &&
      (!control.flipped.checked || isFlipped(entry)) &&
      (!control.near.checked || "near" in entry) &&
      wanted.every((word) => textOf(entry).includes(word));
    matches = data.entries.filter(passes);
    if (hasPvi && control.order.value) matches = matches.filter((entry) => "pvi" in entry).sort((one, other) => one.pvi - other.pvi);
    list.replaceChildren();
    shown = 0;
    addEntries();
    const rows = matches.filter(isRow).length;
    found.textContent = `${rows} of ${data.entries.filter(isRow).length} rows, ${matches.length - rows} rejected or held back`;
  }

  function addEntries() {
    const next = matches.slice(shown, shown + AT_ONCE).map(shownEntry);
    list.append(...next);
    shown += next.length;
    more.hidden = shown >= matches.length;
    return next;
  }

  function node(name, className, ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  /** The text with what was searched for marked. */
  function marked(text) {
    const lower = text.toLowerCase();
    const wanted = words();
    if (!wanted.length || lower.length !== text.length) return [text];
    const parts = [];
    for (let from = 0; ; ) {
      const places = wanted.map((word) => [lower.indexOf(word, from), word.length]).filter(([at]) => at >= 0);
      if (!places.length) return [...parts, text.slice(from)];
      const [at, length] = places.reduce((one, other) => (other[0] < one[0] || (other[0] === one[0] && other[1] > one[1]) ? other : one));
      parts.push(text.slice(from, at), node("mark", "", text.slice(at, at + length)));
      from = at + length;
    }
  }

  function shownEntry(entry) {
    const summary = node("summary", "", node("b", "", data.tasks[entry.task].title));
    const chip = (kind, ...texts) => summary.append(" ", node("span", `chip ${kind}`, ...texts));
    if (isFlipped(entry)) chip("flip", node("bdi", "", entry.before), " → ", node("bdi", "", entry.label));
    else if (labelOf(entry)) chip("", node("bdi", "", labelOf(entry)));
    if (!isRow(entry)) chip("bad", entry.step === "balance" ? "held back" : `rejected: ${spaced(entry.step)}`);
    if ("near" in entry && isRow(entry)) chip("bad", "near-duplicate");
    if ("pvi" in entry) chip("", `PVI ${entry.pvi.toFixed(2)}`);
    const line = node("span", "line", ...marked(lineOf(entry)));
    line.dir = "auto";
    summary.append(" ", line);
    const made = node("details", "row", summary);
    made.addEventListener("toggle", () => made.open && made.children.length === 1 && made.append(story(entry)));
    return made;
  }

  /** What is seen of an entry before it is opened: its beginning, or where it says what was searched for. */
  function lineOf(entry) {
    const [wanted, texts] = [words(), textsOf(entry)];
    const text = wanted.length && texts.find((one) => wanted.some((word) => plain(one).includes(word)));
    const at = text ? Math.max(0, Math.min(...wanted.map((word) => text.toLowerCase().indexOf(word)).filter((place) => place >= 0)) - 40) : 0;
    const whole = isRow(entry) ? entry.texts.map(([, own]) => own) : [entry.reason, entry.text ?? entry.explanation ?? ""];
    const line = text ? text.slice(Number.isFinite(at) ? at : 0) : whole.join(" · ");
    return (text && at > 0 ? "…" : "") + line.slice(0, 300);
  }

  /** The steps of an entry, those that were taken, in their order. */
  function story(entry) {
    const whole = node("div", "");
    const { seeds, checked } = data.tasks[entry.task];
    let [number, parts] = [0, null];
    const step = (title) => whole.append(node("h4", "", `${(number += 1)} ${title}`), (parts = node("dl", "")));
    const say = (name, text) => {
      const told = node("dd", "", ...marked(String(text)));
      told.dir = "auto";
      parts.append(node("dt", "", name), told);
    };
    const sayAll = (pairs) => pairs.forEach(([name, text]) => say(name, typeof text === "number" ? entry.texts[text][1] : text));
    const variant = entry.variant.map(([name, text]) => `, ${name} ${text}`).join("");
    const label = isRow(entry) ? entry.before : entry.asked;
    const rows = isRow(entry) ? [entry.texts] : (entry.rows ?? []);
    if (entry.shown.length) (step("Context"), sayAll(entry.shown));
    if (seeds && entry.seed.length) (step("Instance seed"), sayAll(entry.seed));
    if (rows.length) (step(`Generated${label ? ` for the label ${label}` : ""}${variant}`), rows.forEach(sayAll));
    if (checked && "label" in entry) {
      step("Self-correction");
      say("label", isFlipped(entry) ? `${entry.before} → ${entry.label}` : `${entry.label}, kept`);
      if (entry.explanation) say("explanation", entry.explanation);
      if (entry.votes) say("votes", entry.votes.map(([name, count]) => `${name} ${count}`).join(", "));
    }
    step(isRow(entry) ? "Accepted" : entry.step === "balance" ? "Held back" : `Rejected at ${spaced(entry.step)}${label ? `, asked for ${label}` : ""}${variant}`);
    if (!isRow(entry)) say("reason", entry.reason);
    if (!isRow(entry) && !rows.length) say("raw answer", entry.text);
    else if (entry.step === "self_correction" && entry.text) say("raw answer", entry.text);
    if (isRow(entry) && !checked) say("label", `${entry.label}, not checked`);
    if (isRow(entry)) for (const text of entry.near ?? []) say("repeats", text);
    if ("pvi" in entry) say("PVI", `${entry.pvi} bits`);
    say("place", isRow(entry) ? `row ${entry.idx}, slot ${entry.slot}` : `slot ${entry.slot}`);
    return whole;
  }

  function options(select, first, values) {
    const before = select.value;
    select.replaceChildren(new Option(first, ""), ...values.map((value) => new Option(value, value)));
    choose(select, before);
  }

  function choose(select, value) {
    select.value = value;
    if (select.selectedIndex < 0) select.value = "";
  }

  function offerLabels() {
    const tasks = data.tasks.filter((one) => !control.task.value || one.title === control.task.value);
    options(control.label, "any", [...new Set(tasks.flatMap((one) => one.labels))]);
  }

  /** The filters as they stand behind `#rows?`, so that a view can be linked to. */
  function readAddress() {
    const [place, query] = location.hash.slice(1).split("?");
    if (place !== "rows" || query === undefined) return;
    const wanted = new URLSearchParams(query);
    choose(control.task, wanted.get("task") ?? "");
    offerLabels();
    for (const id of ["label", "kind", "order"]) choose(control[id], wanted.get(id) ?? "");
    control.search.value = wanted.get("search") ?? "";
    for (const id of ["flipped", "near"]) control[id].checked = wanted.has(id);
    filter();
    element("rows").focus();
  }

  function writeAddress() {
    const set = Object.entries(control).map(([id, one]) => [id, one.type === "checkbox" ? (one.checked ? "1" : "") : one.value]);
    const query = new URLSearchParams(set.filter(([, value]) => value)).toString();
    try {
      history.replaceState(null, "", query ? `#rows?${query}` : "#rows");
    } catch {
      // a viewer that lets no page change its address: the filters work all the same
    }
  }

  const waiting = {};
  function later(what, milliseconds) {
    clearTimeout(waiting[what.name]);
    waiting[what.name] = setTimeout(what, milliseconds);
  }

  form.addEventListener("input", (event) => {
    if (event.target === control.task) offerLabels();
    later(filter, 0);
    later(writeAddress, 300); // browsers refuse many changes of the address in a short time
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => (offerLabels(), filter(), writeAddress())));
  more.addEventListener("click", () => addEntries()[0].querySelector("summary").focus());
  addEventListener("hashchange", readAddress);
  options(control.task, "all", data.tasks.map((one) => one.title));
  offerLabels();
  control.order.parentElement.hidden = !hasPvi;
  form.hidden = false;
  filter();
  readAddress();
})();
