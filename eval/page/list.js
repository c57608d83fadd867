"use strict";
// What the browser of rows and that of answers share. Every text enters the page as text content, so that nothing a model wrote becomes markup.
const PAGE_SIZE = 40; // entries that are added to a list at once
const plain = (text) => text.normalize("NFC").toLowerCase();

function node(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** A function that shows other entries in `list`, the first of them at once and more with the button `more`. */
function pagedList(list, more, shownEntry) {
  let [matches, shown] = [[], 0];
  function addEntries() {
    const next = matches.slice(shown, shown + PAGE_SIZE).map(shownEntry);
    list.append(...next);
    shown += next.length;
    more.hidden = shown >= matches.length;
    return next;
  }
  more.addEventListener("click", () => addEntries()[0].querySelector("summary").focus());
  return (entries) => {
    [matches, shown] = [entries, 0];
    list.replaceChildren();
    addEntries();
  };
}
