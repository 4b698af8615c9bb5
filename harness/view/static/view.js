// What pages do without being loaded anew: lists are replaced in place, filters apply as they are typed.
// Everything works without it, by plain links and forms.
"use strict";

let latest = 0;

async function swap(address, push) {
  const mine = ++latest;
  let text;
  try {
    text = await (await fetch(address, { headers: { Accept: "text/html" } })).text();
  } catch {
    if (push) location.assign(address); // the server is gone: the browser says so
    return;
  }
  if (mine !== latest) return; // another page was asked for meanwhile
  const page = new DOMParser().parseFromString(text, "text/html");
  const fresh = page.querySelector("main");
  if (!fresh) return location.assign(address);
  if (!push) keepOpen(fresh);
  const focused = document.activeElement && document.activeElement.name;
  const caret = document.activeElement && document.activeElement.selectionStart;
  document.querySelector("main").replaceWith(fresh);
  document.title = page.title;
  if (push) history.pushState({}, "", address);
  const again = focused && document.querySelector(`main [name="${focused}"]`);
  if (again) {
    again.focus();
    if (caret != null && again.setSelectionRange) again.setSelectionRange(caret, caret);
  }
  watch();
}

// What a reader has opened stays open where the same page is shown anew.
function keepOpen(fresh) {
  const title = (each) => each.closest("section, article")?.id + each.querySelector("summary")?.textContent;
  const open = [...document.querySelectorAll("main details[open]")].map(title);
  for (const each of fresh.querySelectorAll("details")) if (open.includes(title(each))) each.open = true;
}

function formAddress(form) {
  const given = new URLSearchParams(new FormData(form));
  for (const [name, value] of [...given]) if (value === "") given.delete(name);
  return `${form.getAttribute("action")}?${given}`;
}

document.addEventListener("submit", (event) => {
  if (event.target.method !== "get") return;
  event.preventDefault();
  swap(formAddress(event.target), true);
});

let waiting;
document.addEventListener("input", (event) => {
  const form = event.target.form;
  if (!form || !form.hasAttribute("data-live")) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => swap(formAddress(form), true), event.target.type === "search" ? 250 : 0);
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-swap]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  swap(link.href, true);
});

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select")) return;
  const name = { ArrowLeft: "previous", ArrowRight: "next" }[event.key];
  const link = name && document.querySelector(`a[rel="${name}"]`);
  if (link) link.click();
});

window.addEventListener("popstate", () => swap(location.href, false));

// While samples are indexed, the page looks again each second.
let looking;
function watch() {
  if (!document.querySelector("[data-indexing]")) return;
  clearTimeout(looking);
  looking = setTimeout(() => {
    const typed = document.activeElement?.closest("main input, main textarea, main select");
    typed ? watch() : swap(location.href, false); // what is being typed is not taken away
  }, 1000);
}
watch();
