"use strict";
// The browser of rows. Every text goes to the page by textContent: what a model wrote is never markup.
(() => {
  const AT_ONCE = 40; // rows that are added to the list in one go
  const data = JSON.parse(document.getElementById("entries").textContent);
  const element = (id) => document.getElementById(id);
  const [form, list, more, found] = ["filters", "list", "more", "found"].map(element);
  const control = Object.fromEntries(["search", "task", "label", "kind", "order", "flipped", "near"].map((id) => [id, element(id)]));
  const isRow = (entry) => !("step" in entry);
  const isFlipped = (entry) => "label" in entry && entry.before !== entry.label;
  const labelOf = (entry) => ("label" in entry ? entry.label : entry.asked);
  let matches = [];
  let shown = 0;

  const query = () => control.search.value.trim().toLowerCase();

  /** Everything that an entry says, the row itself first. */
  function textsOf(entry) {
    const named = [entry.texts ?? [], entry.shown, entry.seed, entry.variant].flat().map(([, text]) => text);
    const other = [entry.reason, entry.text, entry.explanation, labelOf(entry), entry.slot];
    return [...named, ...other].filter((text) => typeof text === "string");
  }

  /** The same in lower case, to be searched; made once, when an entry is first searched. */
  const searched = new WeakMap();
  function textOf(entry) {
    if (!searched.has(entry)) searched.set(entry, textsOf(entry).join("\n").toLowerCase());
    return searched.get(entry);
  }

  function filter() {
    const words = query();
    const task = data.tasks.findIndex((one) => one.title === control.task.value);
    const wanted = (entry) =>
      (task < 0 || entry.task === task) &&
      (!control.label.value || labelOf(entry) === control.label.value) &&
      (!control.kind.value || (control.kind.value === "row") === isRow(entry)) &&
      (!control.flipped.checked || isFlipped(entry)) &&
      (!control.near.checked || "near" in entry) &&
      (!words || textOf(entry).includes(words));
    matches = data.entries.filter(wanted);
    if (control.order.value) matches = matches.filter((entry) => "pvi" in entry).sort((one, other) => one.pvi - other.pvi);
    list.replaceChildren();
    shown = 0;
    addRows();
    const rows = matches.filter(isRow).length;
    found.textContent = `${rows} of ${data.entries.filter(isRow).length} rows, ${matches.length - rows} rejects`;
  }

  function addRows() {
    const next = matches.slice(shown, shown + AT_ONCE);
    list.append(...next.map(row));
    shown += next.length;
    more.hidden = shown >= matches.length;
  }

  function node(name, className, ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  /** The text with what was searched for marked. */
  function marked(text) {
    const words = query();
    const lower = text.toLowerCase();
    if (!words || lower.length !== text.length) return [text];
    const parts = [];
    let from = 0;
    for (let at = lower.indexOf(words); at >= 0; at = lower.indexOf(words, from)) {
      parts.push(text.slice(from, at), node("mark", "", text.slice(at, at + words.length)));
      from = at + words.length;
    }
    return [...parts, text.slice(from)];
  }

  function row(entry) {
    const summary = node("summary", "", node("b", "", data.tasks[entry.task].title));
    const chip = (text, kind) => summary.append(" ", node("span", `chip ${kind ?? ""}`, text));
    if (isFlipped(entry)) chip(`${entry.before} → ${entry.label}`, "flip");
    else if (labelOf(entry)) chip(labelOf(entry));
    if (!isRow(entry)) chip(`rejected: ${entry.step.replaceAll("_", " ")}`, "bad");
    if ("near" in entry && isRow(entry)) chip("near-duplicate", "bad");
    if ("pvi" in entry) chip(`PVI ${entry.pvi.toFixed(2)}`);
    summary.append(" ", node("span", "line", ...marked(lineOf(entry))));
    const made = node("details", "row", summary);
    made.addEventListener("toggle", () => made.open && made.children.length === 1 && made.append(story(entry)));
    return made;
  }

  /** What is seen of an entry before it is opened: its beginning, or where it says what was searched for. */
  function lineOf(entry) {
    const [words, texts] = [query(), textsOf(entry)];
    const found = words && texts.find((text) => text.toLowerCase().includes(words));
    const at = found ? Math.max(0, found.toLowerCase().indexOf(words) - 40) : 0;
    const line = found ? found.slice(at) : (isRow(entry) ? entry.texts.map(([, text]) => text) : [entry.reason, entry.text]).join(" · ");
    return (at ? "…" : "") + line.slice(0, 300);
  }

  function story(entry) {
    const parts = node("dl", "");
    const step = (title) => parts.append(node("div", "step", title));
    const say = (name, text) => parts.append(node("dt", "", name), node("dd", "", ...marked(String(text))));
    const sayAll = (pairs) => pairs.forEach(([name, text]) => say(name, typeof text === "number" ? entry.texts[text][1] : text));
    const variant = entry.variant.map(([name, text]) => `, ${name} ${text}`).join("");
    step("1 Context");
    sayAll(entry.shown.length ? entry.shown : [["context", "(none)"]]);
    step("2 Instance seed");
    sayAll(entry.seed.length ? entry.seed : [["instance seed", "(none)"]]);
    if (isRow(entry)) {
      step(`3 Generated for the label ${entry.before}${variant}`);
      sayAll(entry.texts);
      step("4 Self-correction");
      say("label", isFlipped(entry) ? `${entry.before} → ${entry.label}` : `${entry.label}, kept`);
      say("explanation", entry.explanation || "(none)");
      if (entry.votes) say("votes", entry.votes.map(([label, count]) => `${label} ${count}`).join(", "));
      for (const text of entry.near ?? []) say("repeats", text);
      if ("pvi" in entry) say("PVI", `${entry.pvi} bits`);
      say("place", `row ${entry.idx}, slot ${entry.slot}`);
    } else {
      step(`Rejected at ${entry.step.replaceAll("_", " ")}${entry.asked ? `, asked for ${entry.asked}${variant}` : variant}`);
      say("reason", entry.reason);
      if ("label" in entry) say("label", isFlipped(entry) ? `${entry.before} → ${entry.label}` : entry.label);
      const rows = candidate(entry.text);
      if (rows) rows.forEach((fields) => sayAll(Object.entries(fields)));
      else say("raw answer", entry.text);
      say("place", `slot ${entry.slot}`);
    }
    return parts;
  }

  /** The rows of a candidate that came to nothing, which are kept as JSON; null for a raw answer. */
  function candidate(text) {
    try {
      const rows = JSON.parse(text);
      return Array.isArray(rows) && rows.every((one) => one && Object.values(one).every((field) => typeof field === "string")) ? rows : null;
    } catch {
      return null;
    }
  }

  function options(select, first, values) {
    const before = select.value;
    select.replaceChildren(new Option(first, ""), ...values.map((value) => new Option(value, value)));
    select.value = values.includes(before) ? before : "";
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
    form.reset();
    control.task.value = wanted.get("task") ?? "";
    offerLabels();
    for (const id of ["label", "kind", "order", "search"]) control[id].value = wanted.get(id) ?? "";
    for (const id of ["flipped", "near"]) control[id].checked = wanted.has(id);
    filter();
    element("rows").scrollIntoView();
  }

  function writeAddress() {
    const set = Object.entries(control).map(([id, one]) => [id, one.type === "checkbox" ? (one.checked ? "1" : "") : one.value]);
    const wanted = new URLSearchParams(set.filter(([, value]) => value)).toString();
    history.replaceState(null, "", wanted ? `#rows?${wanted}` : "#rows");
  }

  let waiting;
  function changed(event) {
    if (event.target === control.task) offerLabels();
    clearTimeout(waiting);
    waiting = setTimeout(() => (filter(), writeAddress()));
  }

  options(control.task, "all", data.tasks.map((one) => one.title));
  offerLabels();
  if (!data.entries.some((entry) => "pvi" in entry)) control.order.parentElement.remove();
  form.hidden = false;
  form.addEventListener("input", changed);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => (offerLabels(), filter(), writeAddress())));
  more.addEventListener("click", addRows);
  new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && addRows()).observe(more);
  addEventListener("hashchange", readAddress);
  filter();
  readAddress();
})();
