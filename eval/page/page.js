"use strict";
// The browser of rows.
(() => {
  const data = JSON.parse(document.getElementById("entries").textContent);
  const element = (id) => document.getElementById(id);
  const [form, list, more, found] = ["filters", "list", "more", "found"].map(element);
  const control = Object.fromEntries(["search", "task", "label", "kind", "order", "flipped", "near"].map((id) => [id, element(id)]));
  const hasPvi = data.entries.some((entry) => "pvi" in entry);
  const isRow = (entry) => !("step" in entry);
  const isFlipped = (entry) => "label" in entry && entry.before !== entry.label;
  const labelOf = (entry) => ("label" in entry ? entry.label : entry.label_asked); // null if no label was asked for
  const spaced = (text) => text.replaceAll("_", " ");
  const showEntries = pagedList(list, more, shownEntry);

  /** The words of the search; an entry matches if it contains all of them. */
  const words = () => plain(control.search.value).split(/\s+/).filter(Boolean);

  /** All texts of an entry, those of the row itself first. */
  function textsOf(entry) {
    const named = [entry.texts ?? [], entry.rows?.flat() ?? [], entry.shown, entry.seed, entry.variant, entry.votes ?? []];
    const other = [entry.reason, entry.text, entry.explanation, labelOf(entry), entry.before, entry.slot, ...(entry.near ?? [])];
    return [...named.flat().map(([, text]) => text), ...other].filter((text) => typeof text === "string");
  }

  /** The same in the form that is searched; computed when an entry is first searched. */
  const searched = new WeakMap();
  function textOf(entry) {
    if (!searched.has(entry)) searched.set(entry, plain(textsOf(entry).join("\n")));
    return searched.get(entry);
  }

  function filter() {
    const searchWords = words();
    const task = data.tasks.findIndex(({ title }) => title === control.task.value);
    const passes = (entry) =>
      (task < 0 || entry.task === task) &&
      (!control.label.value || labelOf(entry) === control.label.value) &&
      (!control.kind.value || (control.kind.value === "row") === isRow(entry)) &&
      (!control.flipped.checked || isFlipped(entry)) &&
      (!control.near.checked || "near" in entry) &&
      searchWords.every((word) => textOf(entry).includes(word));
    let matches = data.entries.filter(passes);
    if (hasPvi && control.order.value) matches = matches.filter((entry) => "pvi" in entry).sort((a, b) => a.pvi - b.pvi);
    showEntries(matches);
    const rows = matches.filter(isRow).length;
    found.textContent = `${rows} of ${data.entries.filter(isRow).length} rows, ${matches.length - rows} rejected or held back`;
  }

  /** The text with the search words highlighted. */
  function marked(text) {
    const lower = text.toLowerCase();
    const searchWords = words();
    if (!searchWords.length || lower.length !== text.length) return [text];
    const parts = [];
    for (let from = 0; ; ) {
      const hits = searchWords.map((word) => [lower.indexOf(word, from), word.length]).filter(([at]) => at >= 0);
      if (!hits.length) return [...parts, text.slice(from)];
      const [at, length] = hits.reduce((best, hit) => (hit[0] < best[0] || (hit[0] === best[0] && hit[1] > best[1]) ? hit : best));
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

  /** What is shown of an entry before it is opened: its beginning, or the text around a search word. */
  function lineOf(entry) {
    const [searchWords, texts] = [words(), textsOf(entry)];
    const text = searchWords.length && texts.find((candidate) => searchWords.some((word) => plain(candidate).includes(word)));
    const at = text ? Math.max(0, Math.min(...searchWords.map((word) => text.toLowerCase().indexOf(word)).filter((index) => index >= 0)) - 40) : 0;
    const whole = isRow(entry) ? entry.texts.map(([, value]) => value) : [entry.reason, entry.text ?? entry.explanation ?? ""];
    const line = text ? text.slice(Number.isFinite(at) ? at : 0) : whole.join(" · ");
    return (text && at > 0 ? "…" : "") + line.slice(0, 300);
  }

  /** The steps that an entry went through, in order. */
  function story(entry) {
    const whole = node("div", "");
    const { seeds, checked } = data.tasks[entry.task];
    let [number, parts] = [0, null];
    const step = (title) => whole.append(node("h4", "", `${(number += 1)} ${title}`), (parts = node("dl", "")));
    const say = (name, text) => {
      const value = node("dd", "", ...marked(String(text)));
      value.dir = "auto";
      parts.append(node("dt", "", name), value);
    };
    const sayAll = (pairs) => pairs.forEach(([name, text]) => say(name, typeof text === "number" ? entry.texts[text][1] : text));
    const sayVariant = () => entry.variant.forEach(([name, text]) => say(spaced(name), text));
    const label = isRow(entry) ? entry.before : entry.label_asked;
    const prompts = new Map([...(entry.shown.length ? (data.tasks[entry.task].first ?? []) : []), ...(entry.asked ?? [])]);
    const own = [entry.texts ?? [], ...(entry.rows ?? []), entry.seed, entry.shown, entry.variant].flat().map(([, text]) => text);
    const prompt = (name) => {
      if (!prompts.has(name)) return;
      const text = prompts.get(name).map((part) => (part < 0 ? own[-1 - part] : data.lines[part])).join("");
      const made = node("details", "prompt", node("summary", "", `Prompt: ${spaced(name)}`), node("pre", "", text));
      prompts.delete(name);
      whole.append(made);
    };
    const rows = isRow(entry) ? [entry.texts] : (entry.rows ?? []);
    if (entry.shown.length) (step("Context"), sayAll(entry.shown), [...prompts.keys()].filter((name) => name.endsWith("first round")).forEach(prompt));
    if (seeds && entry.seed.length) (step("Instance seed"), sayAll(entry.seed), prompt("instance_seed"));
    if (rows.length) (step(`Generated${label ? ` for the label ${label}` : ""}`), sayVariant(), rows.forEach(sayAll), prompt("generation"));
    if (checked && "label" in entry) {
      step("Self-correction");
      say("label", isFlipped(entry) ? `${entry.before} → ${entry.label}` : `${entry.label}, kept`);
      if (entry.explanation) say("explanation", entry.explanation);
      if (entry.votes) say("votes", entry.votes.map(([name, count]) => `${name} ${count}`).join(", "));
    }
    prompt("self_correction");
    step(isRow(entry) ? "Accepted" : entry.step === "balance" ? "Held back" : `Rejected at ${spaced(entry.step)}${label ? `, asked for ${label}` : ""}`);
    if (!rows.length) sayVariant();
    if (!isRow(entry)) say("reason", entry.reason);
    if (!isRow(entry) && !rows.length) say("raw answer", entry.text ?? "");
    else if (entry.step === "self_correction" && entry.text) say("raw answer", entry.text);
    if (isRow(entry) && !checked) say("label", `${entry.label}, not checked`);
    if (isRow(entry)) for (const text of entry.near ?? []) say("repeats", text);
    if ("pvi" in entry) say("PVI", `${entry.pvi} bits`);
    const slot = entry.slot === null ? [] : [`slot ${entry.slot}`]; // an unreadable list answer belongs to no slot
    const position = isRow(entry) ? [`row ${entry.idx}`, ...slot] : slot;
    if (position.length) say("position", position.join(", "));
    for (const name of [...prompts.keys()]) prompt(name);
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
    const tasks = data.tasks.filter(({ title }) => !control.task.value || title === control.task.value);
    options(control.label, "any", [...new Set(tasks.flatMap(({ labels }) => labels))]);
  }

  /** Sets the filters from the address, `#rows?task=...`, so that a view can be linked to. */
  function readAddress() {
    const [section, query] = location.hash.slice(1).split("?");
    if (section !== "rows" || query === undefined) return;
    const given = new URLSearchParams(query);
    choose(control.task, given.get("task") ?? "");
    offerLabels();
    for (const id of ["label", "kind", "order"]) choose(control[id], given.get(id) ?? "");
    control.search.value = given.get("search") ?? "";
    for (const id of ["flipped", "near"]) control[id].checked = given.has(id);
    filter();
    element("rows").focus();
  }

  function writeAddress() {
    const set = Object.entries(control).map(([id, input]) => [id, input.type === "checkbox" ? (input.checked ? "1" : "") : input.value]);
    const query = new URLSearchParams(set.filter(([, value]) => value)).toString();
    try {
      history.replaceState(null, "", query ? `#rows?${query}` : "#rows");
    } catch {
      // some viewers do not let a page change its address; the filters work without it
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
    later(writeAddress, 300); // browsers limit how often the address may change
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => (offerLabels(), filter(), writeAddress())));
  addEventListener("hashchange", readAddress);
  options(control.task, "all", data.tasks.map(({ title }) => title));
  offerLabels();
  control.order.parentElement.hidden = !hasPvi;
  form.hidden = false;
  filter();
  readAddress();
})();
