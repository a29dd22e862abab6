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
