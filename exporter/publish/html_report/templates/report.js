"use strict";
// Shows what a mark stands for: over it with a mouse, after a touch on a phone. Without this script a browser shows the titles itself.
const tip = document.getElementById("tip");
for (const mark of document.querySelectorAll("svg .tip")) {
  const title = mark.querySelector(":scope > title");
  if (!title) continue;
  mark.tip = title.textContent;
  mark.setAttribute("aria-label", mark.tip);
  title.remove();
}
function show(event) {
  const mark = event.target.closest("svg .tip");
  tip.hidden = !mark || !mark.tip;
  if (tip.hidden) return;
  tip.textContent = mark.tip;
  const width = tip.offsetWidth;
  const left = Math.min(Math.max(event.clientX - width / 2, 4), document.documentElement.clientWidth - width - 4);
  const above = event.clientY - tip.offsetHeight - 14;
  tip.style.transform = `translate(${left}px, ${above < 4 ? event.clientY + 18 : above}px)`;
}
document.addEventListener("pointermove", show);
document.addEventListener("pointerdown", show);
