"use strict";
// What each arm answered to the evaluation rows.
(() => {
  const data = JSON.parse(document.getElementById("answer-entries").textContent);
  const element = (id) => document.getElementById(`answers-${id}`);
  const [form, list, more, found, search, task, show] = ["filters", "list", "more", "found", "search", "task", "show"].map(element);
  const showEntries = pagedList(list, more, shownEntry);

  const isRight = (entry, given) => given !== null && entry.gold.includes(given[0]);
  const right = (entry) => entry.given.map((given) => isRight(entry, given));
  const shows = {
    "": () => true,
    wrong: (entry) => right(entry).includes(false),
    all: (entry) => !right(entry).includes(true),
    differ: (entry) => new Set(right(entry)).size > 1,
  };

  const textOf = (entry) => plain([...entry.texts.map(([, text]) => text), ...entry.gold, String(entry.idx)].join("\n"));

  function filter() {
    const words = plain(search.value).split(/\s+/).filter(Boolean);
    const number = data.tasks.findIndex(({ title }) => title === task.value);
    const passes = (entry) => (number < 0 || entry.task === number) && shows[show.value](entry) && words.every((word) => textOf(entry).includes(word));
    const matches = data.entries.filter(passes);
    showEntries(matches);
    found.textContent = `${matches.length} of ${data.entries.length} evaluation rows`;
  }

  function said(given) {
    if (given === null) return "no answer stored";
    return given[0] === null ? "unreadable" : given[0];
  }

  function shownEntry(entry) {
    const { title, cells } = data.tasks[entry.task];
    const summary = node("summary", "", node("b", "", title), " ", node("span", "chip", node("bdi", "", entry.gold.join(" / "))));
    const wrong = right(entry).filter((is) => !is).length;
    summary.append(" ", node("span", wrong ? "chip bad" : "chip", wrong ? `${wrong} of ${cells.length} wrong` : "all right"));
    const line = node("span", "line", entry.texts.map(([, text]) => text).join(" · ").slice(0, 300) || `idx ${entry.idx}`);
    line.dir = "auto";
    summary.append(" ", line);
    const made = node("details", "row", summary);
    made.addEventListener("toggle", () => made.open && made.children.length === 1 && made.append(story(entry, cells)));
    return made;
  }

  function story(entry, cells) {
    const parts = node("dl", "");
    const say = (name, ...children) => {
      const value = node("dd", "", ...children);
      value.dir = "auto";
      parts.append(node("dt", "", name), value);
    };
    for (const [name, text] of entry.texts) say(name, text);
    say("right answer", entry.gold.join(" / "));
    cells.forEach((cell, number) => {
      const is = isRight(entry, entry.given[number]);
      say(cell, said(entry.given[number]), " ", node("span", is ? "chip" : "chip bad", is ? "right" : "wrong"));
    });
    say("position", `idx ${entry.idx}`);
    return parts;
  }

  task.append(new Option("all", ""), ...data.tasks.map(({ title }) => new Option(title, title)));
  form.addEventListener("input", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  form.hidden = false;
  filter();
})();
