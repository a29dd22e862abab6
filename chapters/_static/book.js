// The widgets ask MathJax 2 to typeset their labels. Pass the request on to MathJax 3,
// which replaces the object that holds its settings when it starts.
const passOn = () => {
  window.MathJax ??= {};
  window.MathJax.Hub ??= {
    Queue: ([, , element]) => {
      const { startup } = window.MathJax;
      startup?.promise?.then(() => window.MathJax.typesetPromise([element]));
    },
  };
};
passOn();
window.addEventListener("load", passOn);

// A slider is drawn without a name, and its value is an index. Say what the reader sees beside it.
const nameSlider = (slider) => {
  const handle = slider.querySelector("[role=slider]");
  const readout = slider.querySelector(".widget-readout");
  if (!handle || !readout) return;
  const name = slider.querySelector(".widget-label").textContent;
  if (handle.getAttribute("aria-label") !== name) handle.setAttribute("aria-label", name);
  if (handle.getAttribute("aria-valuetext") !== readout.textContent) {
    handle.setAttribute("aria-valuetext", readout.textContent);
  }
  readout.contentEditable = "false"; // it does nothing on a page without a kernel
};

// A question is a group of answers; what is said about an answer is read out.
const nameQuestion = (quiz) => {
  const question = quiz.querySelector("[id^=quizQn]");
  const answers = quiz.querySelector(".Answer");
  if (!question || !answers || answers.hasAttribute("role")) return;
  answers.setAttribute("role", "radiogroup");
  answers.setAttribute("aria-labelledby", question.id);
  quiz.querySelector(".Feedback")?.setAttribute("role", "status");
};

// What is wider than the page scrolls by itself, also by keyboard.
const WIDE = ".bd-article div.math, .bd-article pre, .pst-scrollable-table-container";
const reachWide = () => {
  for (const element of document.querySelectorAll(WIDE)) {
    if (element.scrollWidth > element.clientWidth + 1) element.tabIndex = 0;
    else element.removeAttribute("tabindex");
  }
};

// The search shows a few words of each page it finds; formulas come as they are typed.
const MATH = /<(span|div) class="math[^>]*>([\s\S]*?)<\/\1>/g;
const readFormula = (_, tag, formula) => {
  const text = formula.replace(/^\s*\\[([]|\\[)\]]\s*$/g, "").trim();
  return text.includes("\\") ? "…" : text;
};
const tidySearch = () => {
  if (typeof Search === "undefined") return;
  const toText = Search.htmlToText;
  Search.htmlToText = (page, anchor) => toText(page.replace(MATH, readFormula), anchor);
};

document.addEventListener("DOMContentLoaded", () => {
  tidySearch();
  // Its text says more than its label, and is what one would say to a computer.
  document.querySelector(".search-button-field")?.removeAttribute("aria-label");
  const article = document.querySelector(".bd-article");
  if (!article) return;
  const name = () => {
    article.querySelectorAll(".widget-slider").forEach(nameSlider);
    article.querySelectorAll(".Quiz").forEach(nameQuestion);
  };
  name();
  const watched = { attributeFilter: ["aria-valuetext"], characterData: true, childList: true, subtree: true };
  new MutationObserver(name).observe(article, watched);
});
window.addEventListener("load", () => {
  Promise.resolve(window.MathJax?.startup?.promise).then(reachWide);
  window.addEventListener("resize", reachWide);
});
