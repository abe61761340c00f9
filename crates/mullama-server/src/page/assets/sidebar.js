// The list of conversations: choose, rename, delete, and its drawer on narrow screens.

import { byId, element, iconButton, toast } from "./dom.js";

const narrow = matchMedia("(max-width: 820px)");

export function closeDrawer() {
  if (!narrow.matches || !document.body.classList.contains("drawer-open")) return;
  document.body.classList.remove("drawer-open");
  byId("main").inert = false;
  byId("scrim").hidden = true;
  byId("sidebar").inert = true;
  byId("show-sidebar").focus();
}

function openDrawer() {
  document.body.classList.add("drawer-open");
  byId("main").inert = true;
  byId("sidebar").inert = false;
  byId("scrim").hidden = false;
  byId("hide-sidebar").focus();
}

function fit() {
  document.body.classList.remove("drawer-open");
  byId("main").inert = false;
  byId("scrim").hidden = true;
  byId("sidebar").inert = narrow.matches || document.body.classList.contains("sidebar-hidden");
}

function setHidden(isHidden) {
  document.body.classList.toggle("sidebar-hidden", isHidden);
  fit();
  byId(isHidden ? "show-sidebar" : "hide-sidebar").focus();
}

/** Connects the drawer. */
export function connectSidebar() {
  byId("show-sidebar").onclick = () => (narrow.matches ? openDrawer() : setHidden(false));
  byId("hide-sidebar").onclick = () => (narrow.matches ? closeDrawer() : setHidden(true));
  byId("scrim").onclick = closeDrawer;
  narrow.addEventListener("change", fit);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeDrawer(); });
  fit();
}

/** Shows the conversations. `act` has `choose(id)`, `rename(id, title)`, `remove(id)` which returns how to undo it. */
export function showConversations(conversations, current, act) {
  const rows = conversations.filter(({ messages }) => messages.length > 0).map((one) => row(one, one.id === current, act));
  byId("conversations").replaceChildren(...rows);
}

function row({ id, title }, isCurrent, act) {
  const choose = element("button", { class: "title", type: "button", title }, [title]);
  if (isCurrent) choose.setAttribute("aria-current", "true");
  choose.onclick = () => act.choose(id);
  const rename = iconButton("edit", `Rename ${title}`, "rename");
  const remove = iconButton("delete", `Delete ${title}`, "delete");
  const item = element("li", {}, [choose, rename, remove]);
  rename.onclick = () => editTitle(item, choose, title, (changed) => act.rename(id, changed));
  remove.onclick = () => {
    const undo = act.remove(id);
    toast("Conversation deleted", "Undo", undo);
    byId("new-conversation").focus();
  };
  return item;
}

function editTitle(item, choose, title, done) {
  const field = element("input", { "aria-label": "Title of the conversation", maxlength: "120" });
  field.value = title;
  let isOver = false;
  const end = (isKept) => {
    if (isOver) return;
    isOver = true;
    item.classList.remove("renaming");
    field.replaceWith(choose);
    choose.focus();
    if (isKept && field.value.trim()) done(field.value.trim());
  };
  field.onblur = () => end(true);
  field.onkeydown = (event) => {
    if (event.key === "Enter" && !event.isComposing) end(true);
    if (event.key === "Escape") end(false);
  };
  item.classList.add("renaming");
  choose.replaceWith(field);
  field.select();
}
